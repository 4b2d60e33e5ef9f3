use super::*;
use crate::engine::admission::HoldPolicy;
use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt;

fn load(args: ServeArgs, env: &[(&str, &str)], file: &str) -> Result<Config, ConfigError> {
    let lookup = |name: &str| env.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
    Config::from_sources(&args, lookup, Path::new("livedrop.toml"), file)
}

fn from_file(file: &str) -> Result<Config, ConfigError> {
    load(ServeArgs::default(), &[], file)
}

fn refusal(file: &str) -> String {
    let line = from_file(file).unwrap_err().to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn nothing_said_means_defaults() {
    let config = from_file("").unwrap();
    assert_eq!(config.bind.to_string(), "127.0.0.1:8080");
    assert_eq!(config.data_dir, Path::new("./data"));
    assert_eq!(config.database_url.expose(), "sqlite://./data/livedrop.db");
    assert!(!config.accept_empty_database);
    assert_eq!(config.durability, Durability::Always);
    assert_eq!(config.journal_segment_bytes, 64 << 20);
    assert_eq!(config.password_hashing, Hashing::Owasp);
    assert_eq!((config.access_token_seconds, config.outage_grace), (900, Duration::from_secs(14_400)));
    assert_eq!(config.refusals_kept, Duration::from_secs(60));
    assert_eq!((config.jwt_secret.clone(), config.workers), (None, None));
    assert!(config.allowed_origins.is_empty() && config.trusted_proxies.is_empty());
    assert_eq!(config.tls, None);
    assert_eq!((config.sizes, config.head_timeout), (Sizes::default(), Duration::from_secs(5)));
    assert_eq!((config.keep_alive, config.fan_out_followers), (Duration::from_secs(75), 1_000));
    assert_eq!((config.sizes.head_bytes_max, config.sizes.body_bytes_max), (16_384, 1_048_576));
    assert_eq!(config.rate_limits, RateLimits::default());
    assert_eq!(config.database_connections, 16);
    assert_eq!(config.start_without_database, StartWithoutDatabase::WhenLastClaimWasOurs);
    assert_eq!(config.payments, Providers::sandbox());
    assert_eq!((config.hold_policy, config.drops_per_creator), (HoldPolicy::USUAL, NonZeroU32::new(100)));
    assert_eq!(config.payment_timeout, Duration::from_millis(5_000));
    assert_eq!(config.shutdown, Duration::from_secs(30));
    assert_eq!((config.log.as_str(), config.log_format), ("info", LogFormat::Text));
}

#[test]
fn limits_of_holds_are_read_and_follow_those_of_rates() {
    let of =
        |file: &str| load(ServeArgs::default(), &[], file).map(|config| (config.hold_policy, config.drops_per_creator));
    let off = (HoldPolicy::OFF, None);
    assert_eq!(of("rate_limits = 'off'").unwrap(), off);
    assert_eq!(of("rate_limits = 'reads=off'").unwrap(), (HoldPolicy::USUAL, NonZeroU32::new(100)));
    let told = HoldPolicy { per_buyer: 7, per_network: 0, ..HoldPolicy::USUAL };
    let file = "rate_limits = 'off'\nhold_limits = ['buyer=7', 'address=off']\ndrops_per_creator = 3";
    assert_eq!(of(file).unwrap(), (told, NonZeroU32::new(3)));
    let waits = HoldPolicy { cool_down_ms: 3_600_000, ..HoldPolicy::USUAL };
    assert_eq!(of("hold_limits = 'cool_down=3600'").unwrap().0, waits);
    for bad in ["on", "buyer", "buyer=0", "buyer=1001", "cool_down=3601", "seller=1", "buyer=1,off"] {
        assert!(of(&format!("hold_limits = '{bad}'")).is_err(), "{bad}");
    }
    assert!(of("drops_per_creator = 0").is_err());
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let file = "workers = 1\nlog = 'warn'\npayment_timeout_ms = '700'\ndata_dir = '/srv/drops'";
    let env = [("LIVEDROP_WORKERS", "2"), ("LIVEDROP_LOG", "error")];
    let args = ServeArgs { workers: Some("3".into()), ..ServeArgs::default() };
    let config = load(args, &env, file).unwrap();
    assert_eq!(config.workers.unwrap().get(), 3);
    assert_eq!(config.log, "error");
    assert_eq!(config.payment_timeout, Duration::from_millis(700));
    assert_eq!(config.database_url.expose(), "sqlite:///srv/drops/livedrop.db");
}

#[test]
fn a_flag_is_true_or_false() {
    for (text, meant) in [("true", true), ("'true'", true), ("false", false)] {
        assert_eq!(from_file(&format!("accept_empty_database = {text}")).unwrap().accept_empty_database, meant);
    }
    assert_eq!(
        refusal("accept_empty_database = 1"),
        "accept_empty_database: must be true or false, not \"1\" (livedrop.toml)"
    );
}

#[test]
fn lists_come_as_arrays_and_with_commas() {
    let wanted = ["https://a.example", "http://localhost:3000"];
    let from_array = from_file("allowed_origins = ['https://a.example/', 'http://localhost:3000']").unwrap();
    assert_eq!(from_array.allowed_origins, wanted);
    let env = [("LIVEDROP_ALLOWED_ORIGINS", "https://a.example, http://localhost:3000,")];
    assert_eq!(load(ServeArgs::default(), &env, "").unwrap().allowed_origins, wanted);
}

#[test]
fn a_key_of_before_names_the_one_of_now() {
    for before in ["ws_allowed_origins", "cors_allowed_origins"] {
        let line = format!("{before} = ['https://shop.example']");
        assert_eq!(refusal(&line), format!("{before}: is allowed_origins now (livedrop.toml)"));
        let variable = format!("LIVEDROP_{}", before.to_uppercase());
        let refused = known_variables([(variable.clone(), "https://shop.example".to_owned())].into_iter()).unwrap_err();
        assert_eq!(refused.to_string(), format!("{variable}: is LIVEDROP_ALLOWED_ORIGINS now (environment)"));
    }
}

#[test]
fn an_error_names_the_key_and_its_source() {
    assert_eq!(refusal("bnid = 'x'"), "bnid: there is no such key; did you mean bind? (livedrop.toml)");
    assert_eq!(refusal("shop = 'x'"), "shop: there is no such key (livedrop.toml)");
    assert_eq!(refusal("workers = 0"), "workers: must be a whole number from 1 to 1024, not \"0\" (livedrop.toml)");
    assert_eq!(refusal("workers = true"), "workers: must not be a boolean (livedrop.toml)");
    assert_eq!(refusal("\n\nlog = "), refusal("\n\nlog = ").replace('\n', " "));
    assert!(refusal("\n\nlog = ").starts_with("livedrop.toml:3: "));
    let env = [("LIVEDROP_LOG_FORMAT", "xml\n")];
    let line = load(ServeArgs::default(), &env, "log_format = 'json'").unwrap_err().to_string();
    assert_eq!(line, "log_format: must be text or json, not \"xml\\n\" (LIVEDROP_LOG_FORMAT)");
    let args = ServeArgs { payment_timeout_ms: Some("soon".into()), ..ServeArgs::default() };
    let line = load(args, &[], "").unwrap_err().to_string();
    assert!(line.ends_with("not \"soon\" (--payment-timeout-ms)"), "{line}");
}

#[test]
fn a_variable_that_is_no_key_is_refused() {
    let check = |variables: &[(&str, &str)]| {
        let told = known_variables(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        told.map_err(|error| error.to_string())
    };
    let known = [("LIVEDROP_BIND", "x"), ("LIVEDROP_JWT_SECRET", ""), ("LIVEDROP_CONFIG", "a.toml"), ("PATH", "/bin")];
    assert_eq!(check(&known), Ok(()));
    let typo = check(&[("LIVEDROP_BINDD", "s3cret"), ("LIVEDROP_BIND", "127.0.0.1:1")]);
    assert_eq!(
        typo.unwrap_err(),
        "LIVEDROP_BINDD: there is no such variable; did you mean LIVEDROP_BIND? (environment)"
    );
    let several = check(&[("LIVEDROP_ZEBRA_CROSSING", ""), ("LIVEDROP_A", ""), ("LIVEDROP_", "")]);
    assert!(several.unwrap_err().starts_with("LIVEDROP_: there is no such variable"));
    assert!(check(&[("LIVEDROP_bind", "x")]).is_err(), "names are in capitals");
    // A service called `livedrop`, and one called `livedrop-db`.
    let links = [
        ("LIVEDROP_SERVICE_HOST", "10.0.0.1"),
        ("LIVEDROP_SERVICE_PORT", "80"),
        ("LIVEDROP_SERVICE_PORT_HTTP", "80"),
        ("LIVEDROP_PORT", "tcp://10.0.0.1:80"),
        ("LIVEDROP_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("LIVEDROP_DB_PORT_5432_TCP_ADDR", "10.0.0.2"),
    ];
    assert_eq!(check(&links), Ok(()));
    assert!(check(&[("LIVEDROP_PORT", "8080")]).is_err(), "somebody means `bind`");
}

#[test]
fn every_key_refuses_nonsense() {
    for line in [
        "bind = 'here'",
        "bind = '127.0.0.1'",
        "bind = '127.0.0.1:99999'",
        "data_dir = ''",
        "database_url = 'mysql://x'",
        "database_url = 'sqlite::memory:'",
        "database_url = 'postgres://u:p/w@db/x'",
        "database_url = 'postgres://u@db/x?sslmode=always'",
        "start_without_database = 'always'",
        "start_without_database = true",
        "database_connections = 0",
        "durability = 'sometimes'",
        "durability = 'interval:0'",
        "durability = 'interval:'",
        "journal_segment_mib = 7",
        "journal_segment_mib = -64",
        "password_hashing = 'md5'",
        "access_token_seconds = 901",
        "outage_grace_seconds = 86401",
        "refusals_kept_seconds = 3601",
        "jwt_secret = 'short'",
        "allowed_origins = ['*']",
        "allowed_origins = [1]",
        "allowed_origins = ['https://a.example/path']",
        "allowed_origins = ['null']",
        "trusted_proxies = ['10.0.0.0/8', 'proxy.example']",
        "rate_limits = 'on'",
        "rate_limits = ['orders=100']",
        "head_bytes_max = 65537",
        "head_timeout_ms = 999",
        "body_bytes_max = 1",
        "body_timeout_ms = 'long'",
        "keep_alive_ms = 0",
        "fan_out_followers = 100001",
        "payments = 'gold'",
        "payment_timeout_ms = 1.5",
        "shutdown_seconds = 0",
        "log = 'livedrop=loud'",
        "log_format = 'xml'",
    ] {
        let key = line.split(' ').next().unwrap();
        assert!(refusal(line).starts_with(&format!("{key}: ")), "{line}: {}", refusal(line));
    }
}

#[test]
fn a_certificate_needs_its_key() {
    let both = from_file("tls_certificate = 'a.crt'\ntls_key = 'a.key'").unwrap().tls.unwrap();
    assert_eq!((both.certificate.as_path(), both.key.as_path()), (Path::new("a.crt"), Path::new("a.key")));
    assert_eq!(refusal("tls_certificate = 'a.crt'"), "tls_key: is missing, and tls_certificate is not");
    assert_eq!(refusal("tls_key = 'a.key'"), "tls_certificate: is missing, and tls_key is not");
}

#[test]
fn beyond_loopback_play_money_is_asked_for_by_name() {
    for bind in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "localhost:80"] {
        assert_eq!(from_file(&format!("bind = '{bind}'")).unwrap().payments, Providers::sandbox(), "{bind}");
    }
    for bind in ["0.0.0.0:80", "[::]:80", "192.0.2.7:80", "[::ffff:192.0.2.7]:80", "[2001:db8::1]:80"] {
        let line = refusal(&format!("bind = '{bind}'"));
        assert!(line.starts_with("payments: must be set") && line.contains("--payments sandbox"), "{bind}: {line}");
        let named = from_file(&format!("bind = '{bind}'\npayments = 'sandbox'")).unwrap();
        assert_eq!(named.payments, Providers::sandbox());
    }
    let env = [("LIVEDROP_BIND", "0.0.0.0:80"), ("LIVEDROP_PAYMENTS", "sandbox")];
    assert_eq!(load(ServeArgs::default(), &env, "").unwrap().payments, Providers::sandbox());
    let args = ServeArgs { payments: Some("sandbox".into()), ..ServeArgs::default() };
    assert!(load(args, &[("LIVEDROP_BIND", "0.0.0.0:80")], "").is_ok());
    assert!(load(ServeArgs::default(), &[("LIVEDROP_BIND", "0.0.0.0:80"), ("LIVEDROP_PAYMENTS", "")], "").is_err());
}

#[test]
fn durability_is_read_and_shown() {
    for text in ["always", "interval:20", "never"] {
        assert_eq!(from_file(&format!("durability = '{text}'")).unwrap().durability.to_string(), text);
    }
}

#[test]
fn secrets_are_not_shown() {
    let secret = "s3cret-s3cret-s3cret-s3cret-s3cret";
    let config = from_file(&format!("jwt_secret = '{secret}'\ndatabase_url = 'postgres://u:pa55@db/x'")).unwrap();
    let signing = config.signing_secret().unwrap();
    assert_eq!((signing.bytes.as_slice(), signing.made), (secret.as_bytes(), false));
    let shown = format!("{config:?}");
    assert!(!shown.contains("s3cret") && !shown.contains("pa55"), "{shown}");
    assert!(!refusal("jwt_secret = 'tooshort'").contains("tooshort"));
    assert!(!refusal("database_url = 'pg://u:pa55@db'").contains("pa55"));
}

#[test]
fn a_secret_is_made_once_and_kept_from_others() {
    let dir = tempfile::tempdir().unwrap();
    let config = from_file(&format!("data_dir = '{}'", dir.path().display())).unwrap();
    let first = config.signing_secret().unwrap();
    let again = config.signing_secret().unwrap();
    assert_eq!((first.bytes.len(), first.made, again.made, &again.bytes), (32, true, false, &first.bytes));
    let path = dir.path().join("secret.key");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&path, b"cut off").unwrap();
    assert_eq!(config.signing_secret().err().unwrap().kind(), ErrorKind::InvalidData);
}

/// `--help` has the defaults in its texts: each is checked.
#[test]
fn the_defaults_that_help_names_are_the_defaults() {
    use clap::{CommandFactory, FromArgMatches, Parser};
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        serve: ServeArgs,
    }
    let mut tried = Vec::new();
    for argument in Cli::command().get_arguments() {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let (Some(flag), Some((_, default))) = (argument.get_long(), help.split_once("[default: ")) else { continue };
        let value = default.trim_end_matches(']');
        // A default in words, or one that follows from another key, is no value.
        if value.contains([' ', ',']) || value == "none" || value.contains("DATA_DIR") || flag == "config" {
            continue;
        }
        let line = ["livedrop".to_owned(), format!("--{flag}"), value.to_owned()];
        let said = Cli::from_arg_matches(&Cli::command().get_matches_from(line)).unwrap().serve;
        let config = load(said, &[], "").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(format!("{config:?}"), format!("{:?}", from_file("").unwrap()), "--{flag} {value}");
        tried.push(flag.to_owned());
    }
    assert!(tried.len() >= 12 && tried.iter().any(|flag| flag == "body-bytes-max"), "{tried:?}");
}

#[test]
fn stripe_has_a_key_that_is_not_shown() {
    let key = "stripe_secret_key = 'sk_test_51secret'";
    let config = from_file(&format!(
        "payments = 'stripe'\n{key}\nstripe_webhook_secret = 'whsec_1234567890, whsec_0987654321'\nstripe_return_url = 'https://shop.example/paid'"
    ));
    let config = config.unwrap();
    let stripe = config.stripe.clone().unwrap();
    assert_eq!((stripe.key.expose(), stripe.webhook_secrets.len()), ("sk_test_51secret", 2));
    assert_eq!(stripe.api.of("/v1"), "https://api.stripe.com/v1");
    let shown = format!("{config:?}");
    assert!(!shown.contains("51secret") && !shown.contains("1234567890"), "{shown}");
    assert!(!refusal("payments = 'stripe'\nstripe_secret_key = 'pk_test_51secret'").contains("51secret"));
    assert!(!refusal(&format!("payments = 'stripe'\n{key}\nstripe_webhook_secret = 'oops_secret'")).contains("oops"));
    assert_eq!(refusal("payments = 'stripe'"), "stripe_secret_key: is missing, and payments names stripe");
    assert_eq!(refusal(key), "stripe_secret_key: has no effect, because payments does not name stripe");
    for line in ["stripe_api_url = 'http://api.stripe.com'", "stripe_return_url = 'shop'"] {
        let key_of_line = line.split(' ').next().unwrap();
        let wrong = refusal(&format!("payments = 'stripe'\n{key}\n{line}"));
        assert!(wrong.starts_with(&format!("{key_of_line}: ")), "{line}: {wrong}");
    }
    let env = [("LIVEDROP_PAYMENTS", "sandbox,stripe"), ("LIVEDROP_STRIPE_SECRET_KEY", "sk_test_2")];
    let both = load(ServeArgs::default(), &env, "").unwrap();
    assert_eq!(both.payments.to_string(), "sandbox,stripe");
    for wrong in ["stripe,stripe", "", "none,stripe", "stripe,gold"] {
        let wrong = format!("payments = '{wrong}'\n{key}");
        assert!(from_file(&wrong).is_err(), "{wrong}");
    }
}
