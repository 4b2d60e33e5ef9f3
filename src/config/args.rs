//! The flags of `livedrop serve`, one for each key that may be on a command line.

use std::path::PathBuf;

/// The flags of `livedrop serve`. Text, so that a bad one is reported as any other source's; the environment is read
/// in [`super::Config::load`].
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ServeArgs {
    /// The configuration file [default: livedrop.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT")]
    pub bind: Option<String>,
    /// Where the journal, the secret key and the default database live [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// postgres://… or sqlite://… [default: sqlite://DATA_DIR/livedrop.db]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Start although the journal has history and the database does not know it: once, after the database was lost
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub accept_empty_database: Option<String>,
    /// Whether a start sells what is live while Postgres is away: never, or when_last_claim_was_ours [default: when_last_claim_was_ours]
    #[arg(long, value_name = "WHEN")]
    pub start_without_database: Option<String>,
    /// Connections to Postgres, 1 to 1000; never more than it allows [default: 16]
    #[arg(long, value_name = "N")]
    pub database_connections: Option<String>,
    /// When the journal is synced: always, interval:MS or never [default: always]
    #[arg(long, value_name = "WHEN")]
    pub durability: Option<String>,
    /// Size of a journal segment, 8 to 1024 [default: 64]
    #[arg(long, value_name = "MIB")]
    pub journal_segment_mib: Option<String>,
    /// Time between two checkpoints of the drops in memory, 0 to 3600; 0: none, and a start reads all orders from SQL [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub checkpoint_seconds: Option<String>,
    /// Journal that is kept for consumers that lag, in whole segments; what pins it is kept anyway [default: 2048]
    #[arg(long, value_name = "MIB")]
    pub consumer_lag_mib: Option<String>,
    /// How long it is kept for them, 1 to 43200 [default: 1440]
    #[arg(long, value_name = "MINUTES")]
    pub consumer_lag_minutes: Option<String>,
    /// Where events go as CloudEvents, such as http://collector:8088/events (see docs/EVENTS.md) [default: none]
    #[arg(long, value_name = "URL")]
    pub events_url: Option<String>,
    /// owasp, or rehearsal for tests and load rehearsals only [default: owasp]
    #[arg(long, value_name = "COST")]
    pub password_hashing: Option<String>,
    /// How long an access token lasts, 1 to 900 [default: 900]
    #[arg(long, value_name = "SECONDS")]
    pub access_token_seconds: Option<String>,
    /// How long access tokens stay good while the database is away, 0 to 86400 [default: 14400]
    #[arg(long, value_name = "SECONDS")]
    pub outage_grace_seconds: Option<String>,
    /// The file of the keys that encrypt personal data [default: DATA_DIR/encryption.keys]
    #[arg(long, value_name = "FILE")]
    pub encryption_key_file: Option<String>,
    /// Origins besides the server's own whose pages may call the API and open WebSockets, comma-separated [default: none]
    #[arg(long, value_name = "ORIGINS")]
    pub allowed_origins: Option<String>,
    /// Networks of proxies that are believed about their clients' addresses, comma-separated [default: none]
    #[arg(long, value_name = "NETWORKS")]
    pub trusted_proxies: Option<String>,
    /// The certificate and its chain (PEM), to serve HTTPS [default: none, HTTP]
    #[arg(long, value_name = "FILE")]
    pub tls_certificate: Option<String>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<String>,
    /// off, or changes such as orders=200/2,reads=off to requests/seconds [default: see README.md]
    #[arg(long, value_name = "LIMITS")]
    pub rate_limits: Option<String>,
    /// off, or changes such as buyer=10,address=off,cool_down=60 to unpaid holds and seconds [default: see README.md; off where rate_limits is]
    #[arg(long, value_name = "LIMITS")]
    pub hold_limits: Option<String>,
    /// How long a refused payment in one call is remembered at least, so that a late copy charges nothing, 0 to 3600 [default: 60]
    #[arg(long, value_name = "SECONDS")]
    pub refusals_kept_seconds: Option<String>,
    /// Drops that one creator may have scheduled or live [default: 100; any number where rate_limits is off]
    #[arg(long, value_name = "N")]
    pub drops_per_creator: Option<String>,
    /// Size of a request's target and headers, 1024 to 65536 [default: 16384]
    #[arg(long, value_name = "BYTES")]
    pub head_bytes_max: Option<String>,
    /// How long the head of a request may take, at least 1000 [default: 5000]
    #[arg(long, value_name = "MS")]
    pub head_timeout_ms: Option<String>,
    /// Size of a request's body, 1024 to 4194304 [default: 1048576]
    #[arg(long, value_name = "BYTES")]
    pub body_bytes_max: Option<String>,
    /// How long a request's body may take [default: 10000]
    #[arg(long, value_name = "MS")]
    pub body_timeout_ms: Option<String>,
    /// How long a connection may wait for its next request, at least 1000 [default: 75000]
    #[arg(long, value_name = "MS")]
    pub keep_alive_ms: Option<String>,
    /// In each such time a client must take some of an answer that waits for it, at least 1000 [default: 20000]
    #[arg(long, value_name = "MS")]
    pub send_timeout_ms: Option<String>,
    /// Connections of one client address; 0 is no limit, trusted proxies have none [default: 1024]
    #[arg(long, value_name = "N")]
    pub connections_per_address_max: Option<String>,
    /// Creators with more followers than this are celebrities: followers' inboxes are computed when they look [default: 1000]
    #[arg(long, value_name = "N")]
    pub fan_out_followers: Option<String>,
    /// HTTP threads [default: one a core]
    #[arg(long, value_name = "N")]
    pub workers: Option<String>,
    /// Who takes the money: stripe; sandbox, play money; none; several with commas. Must be given to listen beyond loopback [default: sandbox on loopback]
    #[arg(long, value_name = "PROVIDER")]
    pub payments: Option<String>,
    /// How long a payment gateway may take [default: 5000]
    #[arg(long, value_name = "MS")]
    pub payment_timeout_ms: Option<String>,
    /// Where Stripe's API is, where payments names stripe [default: Stripe's own address]
    #[arg(long, value_name = "URL")]
    pub stripe_api_url: Option<String>,
    /// The page that a bank sends the buyer back to; without it, the buyer's page completes 3-D Secure with Stripe.js
    #[arg(long, value_name = "URL")]
    pub stripe_return_url: Option<String>,
    /// How long requests may take to finish at shutdown [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub shutdown_seconds: Option<String>,
    /// What is logged, such as info or livedrop=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

impl ServeArgs {
    /// The flag of a key. There is none for `jwt_secret` and Stripe's secrets: every user of the machine can read command lines.
    pub(super) fn flag(&self, key: &str) -> Option<&String> {
        let flag = match key {
            "bind" => &self.bind,
            "data_dir" => &self.data_dir,
            "database_url" => &self.database_url,
            "accept_empty_database" => &self.accept_empty_database,
            "start_without_database" => &self.start_without_database,
            "database_connections" => &self.database_connections,
            "durability" => &self.durability,
            "journal_segment_mib" => &self.journal_segment_mib,
            "checkpoint_seconds" => &self.checkpoint_seconds,
            "consumer_lag_mib" => &self.consumer_lag_mib,
            "consumer_lag_minutes" => &self.consumer_lag_minutes,
            "events_url" => &self.events_url,
            "password_hashing" => &self.password_hashing,
            "access_token_seconds" => &self.access_token_seconds,
            "outage_grace_seconds" => &self.outage_grace_seconds,
            "encryption_key_file" => &self.encryption_key_file,
            "allowed_origins" => &self.allowed_origins,
            "trusted_proxies" => &self.trusted_proxies,
            "tls_certificate" => &self.tls_certificate,
            "tls_key" => &self.tls_key,
            "rate_limits" => &self.rate_limits,
            "hold_limits" => &self.hold_limits,
            "refusals_kept_seconds" => &self.refusals_kept_seconds,
            "drops_per_creator" => &self.drops_per_creator,
            "head_bytes_max" => &self.head_bytes_max,
            "head_timeout_ms" => &self.head_timeout_ms,
            "body_bytes_max" => &self.body_bytes_max,
            "body_timeout_ms" => &self.body_timeout_ms,
            "keep_alive_ms" => &self.keep_alive_ms,
            "send_timeout_ms" => &self.send_timeout_ms,
            "connections_per_address_max" => &self.connections_per_address_max,
            "fan_out_followers" => &self.fan_out_followers,
            "workers" => &self.workers,
            "payments" => &self.payments,
            "payment_timeout_ms" => &self.payment_timeout_ms,
            "stripe_api_url" => &self.stripe_api_url,
            "stripe_return_url" => &self.stripe_return_url,
            "shutdown_seconds" => &self.shutdown_seconds,
            "log" => &self.log,
            "log_format" => &self.log_format,
            _ => return None,
        };
        flag.as_ref()
    }
}
