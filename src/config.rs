//! Configuration: flags, then `LIVEDROP_*`, then `livedrop.toml`, then defaults; the first source with a value wins.
//!
//! Every source gives text, so a key has one parser and one error for all sources.

use crate::domain::limits::{
    ACCESS_TOKEN_SECONDS_MAX, CHECKPOINT_SECONDS_DEFAULT, CHECKPOINT_SECONDS_MAX, CONNECTIONS_PER_ADDRESS_DEFAULT,
    COOL_DOWN_MS_MAX, DATABASE_CONNECTIONS_DEFAULT, DATABASE_CONNECTIONS_MAX, DROPS_PER_CREATOR_DEFAULT,
    DROPS_PER_CREATOR_MAX, FAN_OUT_FOLLOWERS_DEFAULT, FAN_OUT_FOLLOWERS_MAX, HEAD_BYTES_MAX, LAG_BYTES_DEFAULT,
    LAG_BYTES_MAX, LAG_DEFAULT, LAG_MAX, OUTAGE_GRACE_SECONDS_DEFAULT, OUTAGE_GRACE_SECONDS_MAX,
    PRODUCT_BODY_BYTES_MAX, REFUSALS_KEPT_SECONDS_DEFAULT, REFUSALS_KEPT_SECONDS_MAX,
};
use crate::engine::admission::HoldPolicy;
use crate::http::{RateLimits, Sizes, TlsFiles, TrustedProxies};
use crate::journal::{Durability, LagBounds};
use crate::payments::provider::Providers;
use crate::payments::stripe::config::StripeConfig;
use crate::service::encryption::key_file;
use crate::service::events::EventsUrl;
use crate::service::passwords::Hashing;
use crate::storage;
use crate::suggest::nearest;
use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

mod args;
mod payments;
mod secret;
#[cfg(test)]
mod tests;

pub use args::ServeArgs;
use secret::SECRET_BYTES_MIN;
pub use secret::{Secret, SigningSecret};

const FILE_DEFAULT: &str = "livedrop.toml";
/// Every key, as `livedrop.toml` names it; `log_format` is `--log-format` and `LIVEDROP_LOG_FORMAT`.
const KEYS: &[&str] = &[
    "bind",
    "data_dir",
    "database_url",
    "accept_empty_database",
    "start_without_database",
    "database_connections",
    "durability",
    "journal_segment_mib",
    "checkpoint_seconds",
    "consumer_lag_mib",
    "consumer_lag_minutes",
    "events_url",
    "password_hashing",
    "access_token_seconds",
    "outage_grace_seconds",
    "jwt_secret",
    "encryption_key_file",
    "allowed_origins",
    "trusted_proxies",
    "tls_certificate",
    "tls_key",
    "rate_limits",
    "hold_limits",
    "refusals_kept_seconds",
    "drops_per_creator",
    "head_bytes_max",
    "head_timeout_ms",
    "body_bytes_max",
    "body_timeout_ms",
    "keep_alive_ms",
    "send_timeout_ms",
    "connections_per_address_max",
    "fan_out_followers",
    "workers",
    "payments",
    "payment_timeout_ms",
    "stripe_secret_key",
    "stripe_webhook_secret",
    "stripe_api_url",
    "stripe_return_url",
    "shutdown_seconds",
    "log",
    "log_format",
];
/// Keys with `true` or `false` as values.
const FLAGS: &[&str] = &["accept_empty_database"];
/// Keys that may be arrays.
const LISTS: &[&str] = &["allowed_origins", "trusted_proxies", "rate_limits", "hold_limits"];

/// Old keys and their new names.
const RENAMED: &[(&str, &str)] =
    &[("ws_allowed_origins", "allowed_origins"), ("cors_allowed_origins", "allowed_origins")];

/// The format of log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// Readable lines for people.
    Text,
    /// JSON for machines: one object a line.
    Json,
}

/// Whether a start may sell what is live while the database is away, see ADR 34.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartWithoutDatabase {
    /// It waits for the database.
    Never,
    /// It may, if the last server of this data directory had the database when the database last answered, and did not
    /// stop cleanly.
    WhenLastClaimWasOurs,
}

/// All settings of `livedrop serve`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address to listen on.
    pub bind: SocketAddr,
    /// The directory of the journal, the secret key and the default database.
    pub data_dir: PathBuf,
    /// May contain a password, so it is never shown.
    pub database_url: Secret,
    /// Whether a database that does not know the journal is filled from it.
    pub accept_empty_database: bool,
    /// Whether a start may do without the database.
    pub start_without_database: StartWithoutDatabase,
    /// Upper bound of connections to Postgres.
    pub database_connections: u32,
    /// When the journal is synced.
    pub durability: Durability,
    /// Size of a journal segment.
    pub journal_segment_bytes: usize,
    /// The time between two rounds that write checkpoints of the drops in memory. `None`: none are written or used.
    pub checkpoint_interval: Option<Duration>,
    /// Bounds on what the journal keeps for consumers that lag.
    pub consumer_lag: LagBounds,
    /// The URL that receives events; none are sent if absent.
    pub events_url: Option<EventsUrl>,
    /// The cost of password hashing.
    pub password_hashing: Hashing,
    /// Lifetime of an access token in seconds, at most 900.
    pub access_token_seconds: u32,
    /// How long access tokens stay valid while the database is away.
    pub outage_grace: Duration,
    /// The key that signs access tokens, see [`Config::signing_secret`].
    pub jwt_secret: Option<Secret>,
    /// The file of the keys that encrypt personal data in SQL.
    pub encryption_key_file: PathBuf,
    /// Origins besides the server's own whose pages may read answers and open WebSockets.
    pub allowed_origins: Vec<String>,
    /// Networks of proxies that may report their clients' addresses.
    pub trusted_proxies: TrustedProxies,
    /// The certificate for HTTPS; plain HTTP if absent.
    pub tls: Option<TlsFiles>,
    /// Request quotas of users and addresses.
    pub rate_limits: RateLimits,
    /// Bounds on the unpaid holds of one buyer or address.
    pub hold_policy: HoldPolicy,
    /// The minimum time for which a refused one-call payment is remembered.
    pub refusals_kept: Duration,
    /// Drops that one creator may have scheduled or live; no bound if absent.
    pub drops_per_creator: Option<NonZeroU32>,
    /// Limits on the size of a request, and the time limit of its body.
    pub sizes: Sizes,
    /// Time limit of a request's head.
    pub head_timeout: Duration,
    /// How long an idle connection waits for its next request.
    pub keep_alive: Duration,
    /// In each such period a client must read part of a waiting answer.
    pub send_timeout: Duration,
    /// Connections of one client address; no limit if absent.
    pub connections_per_address_max: Option<NonZeroUsize>,
    /// Up to this many followers, each gets an inbox entry when an event happens.
    pub fan_out_followers: u32,
    /// HTTP threads; one a core if absent.
    pub workers: Option<NonZeroUsize>,
    pub payments: Providers,
    /// The settings of Stripe, if it is one of them.
    pub stripe: Option<StripeConfig>,
    /// Time limit of a payment gateway.
    pub payment_timeout: Duration,
    /// How long requests may take to finish at shutdown.
    pub shutdown: Duration,
    /// A filter for tracing-subscriber's `EnvFilter`.
    pub log: String,
    /// The format of log lines.
    pub log_format: LogFormat,
}

/// One line for the user; the program then exits with 2.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl Config {
    /// Reads every source.
    ///
    /// # Errors
    /// The first fault: the key, its source, and what it must be.
    pub fn load(args: &ServeArgs) -> Result<Self, ConfigError> {
        let env = |name: &str| std::env::var(name).ok();
        let file = match (&args.config, env("LIVEDROP_CONFIG")) {
            (Some(path), _) => Some(path.clone()),
            (None, Some(path)) => Some(path.into()),
            (None, None) => Some(PathBuf::from(FILE_DEFAULT)).filter(|path| path.exists()),
        };
        let text = match &file {
            None => String::new(),
            Some(path) => fs::read_to_string(path)
                .map_err(|error| ConfigError(format!("config: cannot read {}: {error}", path.display())))?,
        };
        Self::from_sources(args, env, &file.unwrap_or_default(), &text)
    }

    fn from_sources(
        args: &ServeArgs,
        env: impl Fn(&str) -> Option<String>,
        file: &Path,
        text: &str,
    ) -> Result<Self, ConfigError> {
        let table: toml::Table = text.parse().map_err(|error| syntax(file, text, &error))?;
        if let Some(unknown) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            if let Some(now) = renamed(unknown) {
                return Err(ConfigError(format!("{unknown}: is {now} now ({})", file.display())));
            }
            let hint = hint(nearest(unknown, KEYS.iter().copied()));
            return Err(ConfigError(format!("{unknown}: there is no such key{hint} ({})", file.display())));
        }
        let sources = Sources { args, env: &env, file, table: &table };
        let bind = |text: &str| -> Result<SocketAddr, String> {
            let found = text.to_socket_addrs().ok().and_then(|mut found| found.next());
            found.ok_or_else(|| "must be <host>:<port>".to_owned())
        };
        let data_dir = sources.read("data_dir", not_empty)?.map_or_else(|| PathBuf::from("./data"), PathBuf::from);
        let database_url = match sources.read("database_url", database_url)? {
            Some(url) => url,
            None => storage::sqlite_url(&data_dir.join("livedrop.db")),
        };
        let seconds = |text: &str| number(text, 1, 3_600).map(Duration::from_secs);
        let bind = sources.read("bind", bind)?.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)));
        let providers = payments::providers(&sources, bind)?;
        // An operator who turns quotas off has a crowd on one machine.
        let rate_limits: RateLimits = sources.read("rate_limits", str::parse)?.unwrap_or_default();
        let crowded = rate_limits.are_off();
        Ok(Self {
            bind,
            database_url: Secret(database_url),
            accept_empty_database: sources.read("accept_empty_database", boolean)?.unwrap_or(false),
            start_without_database: sources
                .read("start_without_database", start_without_database)?
                .unwrap_or(StartWithoutDatabase::WhenLastClaimWasOurs),
            database_connections: sources
                .read("database_connections", |text| number(text, 1, DATABASE_CONNECTIONS_MAX.into()))?
                .unwrap_or(DATABASE_CONNECTIONS_DEFAULT),
            durability: sources.read("durability", durability)?.unwrap_or(Durability::Always),
            journal_segment_bytes: sources.read("journal_segment_mib", |text| number(text, 8, 1_024))?.unwrap_or(64)
                << 20,
            checkpoint_interval: checkpoint_interval(&sources)?,
            consumer_lag: consumer_lag(&sources)?,
            events_url: sources.read("events_url", str::parse)?,
            password_hashing: sources.read("password_hashing", hashing)?.unwrap_or(Hashing::Owasp),
            access_token_seconds: sources
                .read("access_token_seconds", |text| number(text, 1, ACCESS_TOKEN_SECONDS_MAX.into()))?
                .unwrap_or(ACCESS_TOKEN_SECONDS_MAX),
            outage_grace: Duration::from_secs(
                sources
                    .read("outage_grace_seconds", |text| number(text, 0, OUTAGE_GRACE_SECONDS_MAX.into()))?
                    .unwrap_or(OUTAGE_GRACE_SECONDS_DEFAULT.into()),
            ),
            refusals_kept: Duration::from_secs(
                sources
                    .read("refusals_kept_seconds", |text| number(text, 0, REFUSALS_KEPT_SECONDS_MAX.into()))?
                    .unwrap_or(REFUSALS_KEPT_SECONDS_DEFAULT.into()),
            ),
            jwt_secret: sources.read("jwt_secret", secret)?,
            encryption_key_file: sources
                .read("encryption_key_file", not_empty)?
                .map_or_else(|| data_dir.join(key_file::FILE), PathBuf::from),
            allowed_origins: sources.read("allowed_origins", origins)?.unwrap_or_default(),
            trusted_proxies: sources.read("trusted_proxies", str::parse)?.unwrap_or_default(),
            tls: tls(&sources)?,
            hold_policy: sources.read("hold_limits", hold_limits)?.unwrap_or(if crowded {
                HoldPolicy::OFF
            } else {
                HoldPolicy::USUAL
            }),
            drops_per_creator: sources
                .read("drops_per_creator", |text| number(text, 1, DROPS_PER_CREATOR_MAX.into()))?
                .or((!crowded).then_some(DROPS_PER_CREATOR_DEFAULT))
                .and_then(NonZeroU32::new),
            rate_limits,
            sizes: sizes(&sources)?,
            head_timeout: sources.read("head_timeout_ms", edge_timeout)?.unwrap_or(Duration::from_secs(5)),
            // Longer than the idle timeouts of the usual load balancers (60 s), so that the server never closes a
            // connection just when the next request is on its way.
            keep_alive: sources.read("keep_alive_ms", edge_timeout)?.unwrap_or(Duration::from_secs(75)),
            send_timeout: sources.read("send_timeout_ms", edge_timeout)?.unwrap_or(Duration::from_secs(20)),
            connections_per_address_max: NonZeroUsize::new(
                sources
                    .read("connections_per_address_max", |text| number(text, 0, 1_000_000))?
                    .unwrap_or(CONNECTIONS_PER_ADDRESS_DEFAULT),
            ),
            fan_out_followers: sources
                .read("fan_out_followers", |text| number(text, 0, FAN_OUT_FOLLOWERS_MAX.into()))?
                .unwrap_or(FAN_OUT_FOLLOWERS_DEFAULT),
            workers: sources.read("workers", |text| number(text, 1, 1_024))?.and_then(NonZeroUsize::new),
            stripe: payments::stripe(&sources, &providers)?,
            payments: providers,
            payment_timeout: sources.read("payment_timeout_ms", timeout)?.unwrap_or(Duration::from_secs(5)),
            shutdown: sources.read("shutdown_seconds", seconds)?.unwrap_or(Duration::from_secs(30)),
            log: sources.read("log", filter)?.unwrap_or_else(|| "info".to_owned()),
            log_format: sources.read("log_format", log_format)?.unwrap_or(LogFormat::Text),
            data_dir,
        })
    }

    /// The key that signs access tokens: the configured one, or one that is created once in the data directory (which
    /// must exist), readable by its owner only.
    ///
    /// # Errors
    /// If it can neither be read nor written, or the stored one is too short.
    pub fn signing_secret(&self) -> io::Result<SigningSecret> {
        if let Some(secret) = &self.jwt_secret {
            return Ok(SigningSecret { bytes: secret.expose().as_bytes().to_vec(), made: false });
        }
        secret::load_or_make(&self.data_dir.join("secret.key"))
    }
}

fn start_without_database(text: &str) -> Result<StartWithoutDatabase, String> {
    match text {
        "never" => Ok(StartWithoutDatabase::Never),
        "when_last_claim_was_ours" => Ok(StartWithoutDatabase::WhenLastClaimWasOurs),
        _ => Err("must be never or when_last_claim_was_ours".to_owned()),
    }
}

fn checkpoint_interval(sources: &Sources<'_>) -> Result<Option<Duration>, ConfigError> {
    let seconds = sources.read("checkpoint_seconds", |text| number(text, 0, CHECKPOINT_SECONDS_MAX))?;
    let seconds = seconds.unwrap_or(CHECKPOINT_SECONDS_DEFAULT);
    Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
}

fn consumer_lag(sources: &Sources<'_>) -> Result<LagBounds, ConfigError> {
    let mib = sources.read("consumer_lag_mib", |text| number::<u64>(text, 0, LAG_BYTES_MAX >> 20))?;
    let minutes = sources.read("consumer_lag_minutes", |text| number::<u64>(text, 1, LAG_MAX.as_secs() / 60))?;
    Ok(LagBounds {
        bytes: mib.map_or(LAG_BYTES_DEFAULT, |mib| mib << 20),
        age: minutes.map_or(LAG_DEFAULT, |minutes| Duration::from_secs(minutes * 60)),
    })
}

/// The prefix of this program's environment variables.
const PREFIX: &str = "LIVEDROP_";
/// Variables that are not keys of the configuration.
const OTHER_VARIABLES: &[&str] = &[
    "LIVEDROP_CONFIG",
    #[cfg(feature = "failpoints")]
    "LIVEDROP_FAILPOINT_FILE",
];

/// Refuses unknown environment variables with the prefix: their user believes that they have an effect.
///
/// # Errors
/// Names the first of them, and a likely correction; never its value, which may be a secret.
pub fn check_environment() -> Result<(), ConfigError> {
    known_variables(
        std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())),
    )
}

fn known_variables(environment: impl Iterator<Item = (String, String)>) -> Result<(), ConfigError> {
    let keys = KEYS.iter().map(|key| format!("{PREFIX}{}", key.to_uppercase()));
    let known: Vec<String> = keys.chain(OTHER_VARIABLES.iter().map(|&name| name.to_owned())).collect();
    let ours = environment.filter(|(name, value)| name.starts_with(PREFIX) && !is_service_link(name, value));
    let mut unknown: Vec<String> = ours.map(|(name, _)| name).filter(|name| !known.contains(name)).collect();
    unknown.sort_unstable();
    match unknown.first() {
        None => Ok(()),
        Some(name) => {
            let bare = |name: &'_ str| name.strip_prefix(PREFIX).unwrap_or_default().to_owned();
            if let Some(now) = renamed(&bare(name).to_lowercase()) {
                return Err(ConfigError(format!("{name}: is {PREFIX}{} now (environment)", now.to_uppercase())));
            }
            let names: Vec<String> = known.iter().map(|known| bare(known)).collect();
            let meant = nearest(&bare(name), names.iter().map(String::as_str)).map(|meant| format!("{PREFIX}{meant}"));
            let hint = hint(meant.as_deref());
            Err(ConfigError(format!("{name}: there is no such variable{hint} (environment)")))
        }
    }
}

/// The new name of an old key.
fn renamed(key: &str) -> Option<&'static str> {
    RENAMED.iter().find(|(before, _)| *before == key).map(|(_, now)| *now)
}

/// Kubernetes sets these in every container beside a service whose name begins with `livedrop`, as Docker's links did.
fn is_service_link(name: &str, value: &str) -> bool {
    let address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let port = ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| name.contains(protocol)) && name.contains("_PORT_");
    name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || port || (name.ends_with("_PORT") && address)
}

fn hint(meant: Option<&str>) -> String {
    meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default()
}

struct Sources<'a> {
    args: &'a ServeArgs,
    env: &'a dyn Fn(&str) -> Option<String>,
    file: &'a Path,
    table: &'a toml::Table,
}

impl Sources<'_> {
    /// The text of the first source that has the key, and the source's name.
    fn find(&self, key: &'static str) -> Result<Option<(String, String)>, ConfigError> {
        if let Some(text) = self.args.flag(key) {
            return Ok(Some((text.clone(), format!("--{}", key.replace('_', "-")))));
        }
        let variable = format!("LIVEDROP_{}", key.to_uppercase());
        // An empty variable counts as absent, as compose files need it.
        if let Some(text) = (self.env)(&variable).filter(|text| !text.is_empty()) {
            return Ok(Some((text, variable)));
        }
        let Some(value) = self.table.get(key) else { return Ok(None) };
        let source = self.file.display().to_string();
        let text = match value {
            toml::Value::String(text) => Some(text.clone()),
            toml::Value::Integer(number) => Some(number.to_string()),
            toml::Value::Boolean(flag) if FLAGS.contains(&key) => Some(flag.to_string()),
            toml::Value::Array(items) if LISTS.contains(&key) => {
                items.iter().map(toml::Value::as_str).collect::<Option<Vec<_>>>().map(|items| items.join(","))
            }
            _ => None,
        };
        match text {
            Some(text) => Ok(Some((text, source))),
            None => Err(ConfigError(format!("{key}: must not be a {} ({source})", value.type_str()))),
        }
    }

    fn read<T>(&self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, ConfigError> {
        let Some((text, source)) = self.find(key)? else { return Ok(None) };
        parse(text.trim()).map(Some).map_err(|reason| {
            // Secrets stay out of logs, even invalid ones; other values stay on one line.
            let shown = match key {
                "jwt_secret" | "database_url" | "stripe_secret_key" | "stripe_webhook_secret" => String::new(),
                _ => format!(", not {text:?}"),
            };
            ConfigError(format!("{key}: {reason}{shown} ({source})"))
        })
    }
}

fn syntax(file: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    ConfigError(format!("{}:{line}: {}", file.display(), error.message().replace('\n', " ")))
}

fn number<T: TryFrom<u64>>(text: &str, min: u64, max: u64) -> Result<T, String> {
    let wrong = || format!("must be a whole number from {min} to {max}");
    let number = text.parse().ok().filter(|number| (min..=max).contains(number)).ok_or_else(wrong)?;
    T::try_from(number).map_err(|_| wrong())
}

fn timeout(text: &str) -> Result<Duration, String> {
    number(text, 1, 600_000).map(Duration::from_millis)
}

fn tls(sources: &Sources) -> Result<Option<TlsFiles>, ConfigError> {
    let path = |key| sources.read(key, not_empty).map(|path| path.map(PathBuf::from));
    match (path("tls_certificate")?, path("tls_key")?) {
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(ConfigError("tls_key: is missing, and tls_certificate is not".to_owned())),
        (None, Some(_)) => Err(ConfigError("tls_certificate: is missing, and tls_key is not".to_owned())),
    }
}

/// actix-http's clock is up to half a second late: a shorter time could be over before it begins.
fn edge_timeout(text: &str) -> Result<Duration, String> {
    number(text, 1_000, 600_000).map(Duration::from_millis)
}

fn sizes(sources: &Sources) -> Result<Sizes, ConfigError> {
    let bytes = |max: usize| move |text: &str| number(text, 1_024, max as u64);
    let default = Sizes::default();
    Ok(Sizes {
        head_bytes_max: sources.read("head_bytes_max", bytes(HEAD_BYTES_MAX))?.unwrap_or(default.head_bytes_max),
        body_bytes_max: sources
            .read("body_bytes_max", bytes(PRODUCT_BODY_BYTES_MAX))?
            .unwrap_or(default.body_bytes_max),
        body_timeout: sources.read("body_timeout_ms", timeout)?.unwrap_or(default.body_timeout),
    })
}

/// `off`, or changes to the defaults: `buyer=10,address=off,cool_down=60`, the last in seconds.
fn hold_limits(text: &str) -> Result<HoldPolicy, String> {
    if text == "off" {
        return Ok(HoldPolicy::OFF);
    }
    let mut policy = HoldPolicy::USUAL;
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let wrong = || "must be off, or a list of buyer=<holds>, address=<holds>, cool_down=<seconds>".to_owned();
        let (name, value) = part.split_once('=').ok_or_else(wrong)?;
        let value = value.trim();
        let read = |max: u64| if value == "off" { Ok(0) } else { number::<u64>(value, 1, max) };
        match name.trim() {
            "buyer" => policy.per_buyer = u16::try_from(read(1_000)?).map_err(|_| wrong())?,
            "address" => policy.per_network = u32::try_from(read(1_000_000)?).map_err(|_| wrong())?,
            "cool_down" => {
                let seconds = read(u64::from(COOL_DOWN_MS_MAX / 1_000))?;
                policy.cool_down_ms = u32::try_from(seconds * 1_000).map_err(|_| wrong())?;
            }
            _ => return Err(wrong()),
        }
    }
    Ok(policy)
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn database_url(text: &str) -> Result<String, String> {
    storage::check_url(text).map(|()| text.to_owned())
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

fn durability(text: &str) -> Result<Durability, String> {
    match text {
        "always" => Ok(Durability::Always),
        "never" => Ok(Durability::Never),
        _ => text
            .strip_prefix("interval:")
            .and_then(|ms| number(ms, 1, 60_000).ok())
            .map(|millis| Durability::Interval { millis })
            .ok_or_else(|| "must be always, interval:<1 to 60000 ms> or never".to_owned()),
    }
}

fn hashing(text: &str) -> Result<Hashing, String> {
    match text {
        "owasp" => Ok(Hashing::Owasp),
        "rehearsal" => Ok(Hashing::Rehearsal),
        _ => Err("must be owasp or rehearsal".to_owned()),
    }
}

fn secret(text: &str) -> Result<Secret, String> {
    let long_enough = text.len() >= SECRET_BYTES_MIN;
    if long_enough { Ok(Secret(text.to_owned())) } else { Err(format!("must have {SECRET_BYTES_MIN} bytes or more")) }
}

fn origins(text: &str) -> Result<Vec<String>, String> {
    let origin = |origin: &str| {
        let origin = origin.trim().trim_end_matches('/');
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        let well_formed = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' ']));
        if well_formed { Ok(origin.to_owned()) } else { Err("must be origins such as https://shop.example".to_owned()) }
    };
    text.split(',').filter(|origin| !origin.trim().is_empty()).map(origin).collect()
}

fn filter(text: &str) -> Result<String, String> {
    let known = tracing_subscriber::EnvFilter::try_new(text).map(|_| text.to_owned());
    known.map_err(|_| "must be a filter such as info or livedrop=debug".to_owned())
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be text or json".to_owned()),
    }
}
