//! The first connection: its encryption, a pooler in between, and the number of connections allowed.

use super::target::Target;
use crate::storage::StoreError;
use crate::storage::failure::from_sqlx;
use crate::storage::sql::STATEMENT_TIMEOUT;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Error, PgConnection, Row};
use std::io;
use std::time::Duration;
use tracing::{info, warn};

/// Time limit of one attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// SQLSTATE `protocol_violation`: PgBouncer's code for most errors.
const PROTOCOL_VIOLATION: &str = "08P01";

/// The parameters of the pool.
pub struct Opened {
    /// Options of every connection.
    pub options: PgConnectOptions,
    /// Size of the pool.
    pub connections: u32,
    /// Whether a pooler shares the server's sessions: no setting may last longer than a transaction.
    pub pooled: bool,
}

/// Settings of every session. The journal deletes records after their commit, so a commit has to be durable, whatever
/// the server's default is.
pub fn settings() -> [(&'static str, String); 3] {
    let limit = format!("{}ms", STATEMENT_TIMEOUT.as_millis());
    [
        ("synchronous_commit", "on".to_owned()),
        ("statement_timeout", limit.clone()),
        ("idle_in_transaction_session_timeout", limit),
    ]
}

/// Connects once, inspects the server, and closes the connection again.
///
/// # Errors
/// [`StoreError::Unavailable`] for what may pass, [`StoreError::Refused`] for what does not.
pub async fn open(target: &Target, wanted: u32) -> Result<Opened, StoreError> {
    let base = target.options.clone().application_name("livedrop");
    let direct = base.clone().options(settings());
    // A pooler refuses settings that it would have to remember for a session.
    let plain = base.extra_float_digits(None);
    let (options, mut first) = match connect(target, &direct).await {
        Ok(connected) => connected,
        Err(error) if is_startup_parameter(&error) => {
            connect(target, &plain).await.map_err(|error| sorted(target, error))?
        }
        Err(error) => return Err(sorted(target, error)),
    };
    let looked = async {
        let found = look(&mut first).await.map_err(from_sqlx)?;
        let shared = is_shared(&options, &mut first, target).await?;
        let pooled = shared || !found.settings_arrived;
        Ok((found, pooled))
    };
    let (found, pooled) = match tokio::time::timeout(CONNECT_TIMEOUT * 2, looked).await {
        Ok(looked) => looked?,
        Err(_) => return Err(unavailable(target, &"the server does not answer")),
    };
    // The next connection needs its slot, and the server takes a moment to notice a connection that is merely dropped.
    let _ = tokio::time::timeout(CONNECT_TIMEOUT, first.close()).await;
    let ssl = options.get_ssl_mode();
    tell_encryption(target, ssl);
    let connections = tell_connections(wanted, found.limit);
    if pooled {
        info!("connected through a pooler: settings are made for each transaction");
    }
    let options = if pooled { plain.ssl_mode(ssl) } else { options };
    Ok(Opened { options, connections, pooled })
}

/// Tries the modes that the URL allows. Later connections must use the mode that worked.
async fn connect(target: &Target, options: &PgConnectOptions) -> Result<(PgConnectOptions, PgConnection), Error> {
    let mut last = Error::PoolTimedOut;
    for mode in target.modes() {
        let options = options.clone().ssl_mode(*mode);
        match tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await {
            Ok(Ok(connection)) => return Ok((options, connection)),
            Ok(Err(error)) if is_about_encryption(&error) => last = error,
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let reason = format!("no answer within {} s", CONNECT_TIMEOUT.as_secs());
                return Err(Error::Io(io::Error::new(io::ErrorKind::TimedOut, reason)));
            }
        }
    }
    Err(last)
}

/// Whether another mode might succeed: no TLS, an invalid certificate, or a server whose rules differ with encryption.
fn is_about_encryption(error: &Error) -> bool {
    match error {
        Error::Tls(_) => true,
        Error::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        Error::Database(error) => error.code().as_deref() == Some("28000"),
        _ => false,
    }
}

fn is_startup_parameter(error: &Error) -> bool {
    let database = error.as_database_error();
    database.is_some_and(|error| {
        error.code().as_deref() == Some(PROTOCOL_VIOLATION) && error.message().contains("startup parameter")
    })
}

/// Sorts a failure to connect: a permanent one ends the start, a passing one is retried.
fn sorted(target: &Target, error: Error) -> StoreError {
    let place = &target.place;
    match &error {
        Error::Database(cause) => {
            let code = cause.code().unwrap_or_default();
            let told = cause.message();
            if refuses(&code, told) {
                StoreError::Refused(format!("{place} refuses: {told}"))
            } else {
                unavailable(target, &told)
            }
        }
        Error::Io(cause) => match cause.kind() {
            io::ErrorKind::InvalidData => StoreError::Refused(format!("no encrypted connection to {place}: {cause}")),
            io::ErrorKind::PermissionDenied => StoreError::Refused(format!("{place}: {cause}")),
            _ => unavailable(target, cause),
        },
        Error::Tls(cause) => StoreError::Refused(format!("no encrypted connection to {place}: {cause}")),
        Error::Protocol(cause) => StoreError::Refused(format!("what answers at {place} is no Postgres: {cause}")),
        Error::Configuration(cause) => StoreError::Refused(format!("the database url: {cause}")),
        other => unavailable(target, other),
    }
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>. Passing: connection exceptions (08), resources and
/// full servers (53), a server that starts or stops (57), system errors (58). PgBouncer uses 08P01 for nearly
/// everything.
fn refuses(code: &str, told: &str) -> bool {
    if code == PROTOCOL_VIOLATION {
        return ["startup parameter", "no such database", "no such user", "password", "SSL required"]
            .iter()
            .any(|text| told.contains(text));
    }
    !["08", "53", "57", "58"].iter().any(|class| code.starts_with(class))
}

fn unavailable(target: &Target, reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unavailable(Error::Io(io::Error::other(format!("{}: {reason}", target.place))))
}

struct Found {
    settings_arrived: bool,
    /// Connections that the role may have to this database.
    limit: u32,
}

async fn look(connection: &mut PgConnection) -> Result<Found, Error> {
    // -1: no limit of its own.
    const SQL: &str = "SELECT CAST(setting AS BIGINT) AS timeout, \
        CAST(current_setting('max_connections') AS BIGINT) \
          - CAST(current_setting('superuser_reserved_connections') AS BIGINT) \
          - CAST(coalesce(nullif(current_setting('reserved_connections', true), ''), '0') AS BIGINT) AS of_server, \
        CAST(coalesce((SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user), -1) AS BIGINT) AS of_role, \
        CAST(coalesce((SELECT datconnlimit FROM pg_database WHERE datname = current_database()), -1) AS BIGINT) AS of_database \
        FROM pg_settings WHERE name = 'statement_timeout'";
    // No prepared statement: a pooler without support for them has to fail later, where the error explains it.
    let row = sqlx::raw_sql(SQL).fetch_one(&mut *connection).await?;
    let timeout: i64 = row.try_get("timeout")?;
    let limits = ["of_server", "of_role", "of_database"].map(|column| row.try_get::<i64, _>(column));
    let mut limit = u32::MAX;
    for found in limits {
        limit = u32::try_from(found?).map_or(limit, |found| limit.min(found));
    }
    Ok(Found { settings_arrived: u128::try_from(timeout) == Ok(STATEMENT_TIMEOUT.as_millis()), limit })
}

/// Whether two connections get the same server session, as behind a transaction pooler. Such a pooler has to support
/// prepared statements, which is tested.
async fn is_shared(options: &PgConnectOptions, first: &mut PgConnection, target: &Target) -> Result<bool, StoreError> {
    // A role with a single connection cannot open a second one; then there is nothing to compare.
    let Ok(Ok(mut second)) = tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await else { return Ok(false) };
    let asked = async {
        let shared = process(first).await? == process(&mut second).await?;
        if shared {
            // Statements of one name and two texts, then the first again.
            number(first, "SELECT CAST(1 AS BIGINT) + $1").await?;
            number(&mut second, "SELECT CAST(2 AS BIGINT) + $1").await?;
            number(first, "SELECT CAST(1 AS BIGINT) + $1").await?;
        }
        Ok(shared)
    };
    let shared = match asked.await {
        Err(Error::Database(error))
            if matches!(error.code().as_deref(), Some("26000" | "42P05" | "08P01" | "08P02")) =>
        {
            let place = &target.place;
            return Err(StoreError::Refused(format!(
                "the pooler at {place} does not keep prepared statements: it takes PgBouncer 1.21 or newer with \
                 max_prepared_statements above 0, or a connection past it ({})",
                error.message()
            )));
        }
        asked => asked.map_err(from_sqlx)?,
    };
    let _ = tokio::time::timeout(CONNECT_TIMEOUT, second.close()).await;
    Ok(shared)
}

async fn process(connection: &mut PgConnection) -> Result<i32, Error> {
    sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}

async fn number(connection: &mut PgConnection, sql: &'static str) -> Result<i64, Error> {
    sqlx::query(sql).bind(1_i64).fetch_one(connection).await?.try_get(0)
}

fn tell_encryption(target: &Target, got: PgSslMode) {
    let server = &target.place;
    match (got, target.ssl) {
        (PgSslMode::Disable, PgSslMode::Prefer) if !target.is_here() => {
            warn!(%server, "the connection to the database is NOT encrypted: the server offers no TLS; sslmode=require insists on it");
        }
        (PgSslMode::Disable, _) => info!(%server, "the connection to the database is not encrypted"),
        (PgSslMode::VerifyFull, _) => {
            info!(%server, "the connection to the database is encrypted, and its certificate checked")
        }
        (PgSslMode::VerifyCa, _) => {
            info!(%server, "the connection to the database is encrypted, its certificate checked, its host's name not");
        }
        _ => info!(%server, "the connection to the database is encrypted, its certificate not checked"),
    }
}

/// Leaves one connection to people and to commands run beside the server, if there is more than one.
fn tell_connections(wanted: u32, limit: u32) -> u32 {
    let most = if limit > 2 { limit - 1 } else { limit.max(1) };
    if wanted > most {
        warn!(
            wanted,
            allowed = limit,
            used = most,
            "fewer connections to the database than configured: it allows no more"
        );
    }
    wanted.min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waiting_does_not_cure_is_told_from_what_passes() {
        for (code, told) in [
            ("28P01", "password authentication failed for user \"shop\""),
            ("28000", "no pg_hba.conf entry"),
            ("3D000", "database \"x\" does not exist"),
            ("42501", "permission denied for database"),
            (PROTOCOL_VIOLATION, "no such database: x"),
            (PROTOCOL_VIOLATION, "unsupported startup parameter: search_path"),
        ] {
            assert!(refuses(code, told), "{code} {told}");
        }
        for (code, told) in [
            ("57P03", "the database system is starting up"),
            ("53300", "sorry, too many clients already"),
            ("08006", "connection failure"),
            (PROTOCOL_VIOLATION, "server login has been failing, try again later (server_login_retry)"),
        ] {
            assert!(!refuses(code, told), "{code} {told}");
        }
    }

    #[test]
    fn a_pool_stays_below_what_is_allowed() {
        assert_eq!(
            [(16, u32::MAX), (16, 97), (16, 16), (16, 3), (16, 2), (16, 1), (4, 5)]
                .map(|(wanted, limit)| { tell_connections(wanted, limit) }),
            [16, 16, 15, 2, 2, 1, 4]
        );
    }
}
