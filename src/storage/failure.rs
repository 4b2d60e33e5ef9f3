//! Maps driver errors to [`StoreError`].

use super::StoreError;
use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;

/// Sorts an error: worth a retry, a value that is taken, or a bug.
pub(super) fn from_sqlx(error: sqlx::Error) -> StoreError {
    use sqlx::Error;
    match error {
        Error::Database(ref cause) => match sort(cause.as_ref()) {
            Meaning::Unavailable => StoreError::Unavailable(error),
            Meaning::Taken(what) => StoreError::Taken { what },
            Meaning::Unacceptable => StoreError::Unacceptable(cause.message().to_owned()),
            Meaning::Corrupt => StoreError::Corrupt(error.to_string()),
        },
        Error::Io(_) | Error::Tls(_) | Error::PoolTimedOut | Error::PoolClosed | Error::WorkerCrashed => {
            StoreError::Unavailable(error)
        }
        // A connection that was cut in the middle of a message shows as one of these.
        Error::Protocol(_) | Error::BeginFailed => StoreError::Unavailable(error),
        Error::Migrate(error) => from_migrate(*error),
        other => StoreError::Corrupt(other.to_string()),
    }
}

/// Sorts a migration's error.
pub(super) fn from_migrate(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => from_sqlx(error),
        other => StoreError::Corrupt(other.to_string()),
    }
}

/// Maps an error inside the projection, where a taken value means that records contradict the rows.
pub(super) fn in_projection(error: StoreError) -> StoreError {
    match error {
        StoreError::Taken { what } => StoreError::Unacceptable(format!("{what} is in the database already")),
        other => other,
    }
}

enum Meaning {
    Unavailable,
    Taken(&'static str),
    Unacceptable,
    Corrupt,
}

fn sort(error: &dyn DatabaseError) -> Meaning {
    if error.is_unique_violation() {
        // Postgres names the constraint, SQLite the columns in its message.
        return Meaning::Taken(taken(error.constraint().unwrap_or_else(|| error.message())));
    }
    let code = error.code().unwrap_or_default();
    let (passing, about_values) = match code.parse::<u32>() {
        // SQLite's result codes are numbers of up to four digits; every SQLSTATE has five characters.
        Ok(number) if code.len() < 5 => (sqlite_passes(number), sqlite_refuses_values(number)),
        _ => (postgres_passes(&code), postgres_refuses_values(&code)),
    };
    match (passing, about_values) {
        (true, _) => Meaning::Unavailable,
        (false, true) => Meaning::Unacceptable,
        (false, false) => Meaning::Corrupt,
    }
}

fn taken(constraint: &str) -> &'static str {
    const NAMES: [(&str, &str); 11] = [
        ("users_by_email_key", "email"),
        ("users_email_key", "email"),
        ("users.email", "email"),
        ("users_pkey", "user"),
        ("users.id", "user"),
        ("creators_handle_key", "handle"),
        ("creators.handle", "handle"),
        ("creators_pkey", "creator"),
        ("creators.id", "creator"),
        ("refresh_tokens", "refresh token"),
        ("products", "product"),
    ];
    NAMES.into_iter().find(|(part, _)| constraint.contains(part)).map_or("id", |(_, what)| what)
}

/// <https://www.sqlite.org/rescode.html>: busy, locked, no memory, read-only, interrupted, I/O error, full, cannot open,
/// locking protocol. The low byte is the primary code.
fn sqlite_passes(code: u32) -> bool {
    matches!(code & 0xff, 5 | 6 | 7 | 8 | 9 | 10 | 13 | 14 | 15)
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>: connection exceptions, wrong credentials or
/// database (an operator can repair them at runtime), read-only (a standby), rollback by conflict, resources, a full or
/// busy server, operator intervention (a shutdown, a cancelled statement), system errors.
fn postgres_passes(code: &str) -> bool {
    const CLASSES: [&str; 7] = ["08", "28", "40", "53", "55", "57", "58"];
    matches!(code, "3D000" | "25006" | "25P03") || CLASSES.iter().any(|class| code.starts_with(class))
}

/// Too big, a constraint, a mismatch, out of range: the values are at fault, not the database.
fn sqlite_refuses_values(code: u32) -> bool {
    matches!(code & 0xff, 18 | 19 | 20 | 25)
}

/// Data exceptions, integrity constraints, program limits (a value that is too long for its index).
fn postgres_refuses_values(code: &str) -> bool {
    ["22", "23", "54"].iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_values_is_told_from_what_is_wrong_with_the_database() {
        for code in ["22P05", "22021", "22001", "23514", "23502", "54000"] {
            assert!(postgres_refuses_values(code) && !postgres_passes(code), "{code}");
        }
        for code in ["42P01", "42501", "XX001", "53100", "0A000", ""] {
            assert!(!postgres_refuses_values(code), "{code}");
        }
        for code in [18, 19, 275, 1299, 1811, 20, 25] {
            assert!(sqlite_refuses_values(code) && !sqlite_passes(code), "{code}");
        }
        for code in [1, 5, 11, 13, 26, 778] {
            assert!(!sqlite_refuses_values(code), "{code}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_told_from_what_does_not() {
        for code in ["57P01", "57014", "53300", "40P01", "08006", "25006", "3D000"] {
            assert!(postgres_passes(code), "{code}");
        }
        for code in ["23514", "42P01", "22021", "XX001", ""] {
            assert!(!postgres_passes(code), "{code}");
        }
        assert!(sqlite_passes(5) && sqlite_passes(517) && sqlite_passes(13) && sqlite_passes(2570));
        assert!(!sqlite_passes(1) && !sqlite_passes(11) && !sqlite_passes(275) && !sqlite_passes(26));
    }

    #[test]
    fn a_constraint_leads_to_the_field() {
        assert_eq!(taken("users_email_key"), "email");
        assert_eq!(taken("UNIQUE constraint failed: users.email"), "email");
        assert_eq!(taken("users_by_email_key"), "email");
        assert_eq!(taken("UNIQUE constraint failed: users.email_key"), "email");
        assert_eq!(taken("UNIQUE constraint failed: creators.id"), "creator");
        assert_eq!(taken("creators_handle_key"), "handle");
        assert_eq!(taken("whatever"), "id");
    }
}
