//! Parses a Postgres URL: the server's address and the encryption of connections, with libpq's meaning.
//!
//! No message of this file repeats the URL or a part of it that may be a password.

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use url::Url;

/// Parameters that sqlx understands. It would ignore all others, even `channel_binding=require`.
const PARAMETERS: [&str; 10] =
    ["sslcert", "sslkey", "host", "hostaddr", "port", "dbname", "user", "password", "application_name", "options"];
/// PostgreSQL 16's name for the system's authorities.
const SYSTEM_ROOTS: &str = "system";

/// A server and a database on it.
#[derive(Clone)]
pub struct Target {
    /// Without a TLS mode: see [`Target::modes`].
    pub options: PgConnectOptions,
    /// `host:port`, or a socket's path. For messages.
    pub place: String,
    /// The TLS mode of the URL.
    pub ssl: PgSslMode,
}

impl Target {
    /// Parses a URL. Touches no file and no server.
    ///
    /// # Errors
    /// One line that says what is wrong, without a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        no_stray_characters(text)?;
        let mut url = Url::parse(text).map_err(|error| format!("is not understood: {error}"))?;
        let (mut mode, mut root, mut others) = (None, None, Vec::new());
        for (key, value) in url.query_pairs() {
            match &*key {
                "sslmode" => mode = Some(value.into_owned()),
                "sslrootcert" => root = Some(value.into_owned()),
                key if PARAMETERS.contains(&key) || key.starts_with("options[") => {
                    others.push((key.to_owned(), value.into_owned()));
                }
                key => return Err(format!("has a parameter that is not supported: {key:?}")),
            }
        }
        url.set_query(None);
        if !others.is_empty() {
            url.query_pairs_mut().extend_pairs(&others);
        }
        let mut options =
            PgConnectOptions::from_str(url.as_str()).map_err(|error| format!("is not understood: {error}"))?;
        let bare = options.get_host().strip_prefix('[').and_then(|host| host.strip_suffix(']')).map(str::to_owned);
        if let Some(address) = bare {
            options = options.host(&address);
        }
        // As libpq does, even if the URL has no such parameter.
        let mode = mode.or_else(|| std::env::var("PGSSLMODE").ok().filter(|text| !text.is_empty()));
        let root = root.or_else(|| std::env::var("PGSSLROOTCERT").ok().filter(|text| !text.is_empty()));
        let ssl = ssl_mode(mode.as_deref(), root.as_deref())?;
        if let Some(file) = root.filter(|file| file != SYSTEM_ROOTS) {
            options = options.ssl_root_cert(&file);
            if matches!(ssl, PgSslMode::VerifyCa) {
                nobody_else_is_trusted(&file, std::env::var("SSL_CERT_FILE").ok().as_deref())?;
            }
        }
        let (place, ssl) = match socket(&options) {
            Some(path) => (path, PgSslMode::Disable),
            None => (format!("{}:{}", options.get_host(), options.get_port()), ssl),
        };
        Ok(Self { options, place, ssl })
    }

    /// Whether the server is on this machine, so that no network is in between.
    pub fn is_here(&self) -> bool {
        let host = self.options.get_host();
        host == "localhost" || host.starts_with('/') || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }

    /// The TLS modes to try, in order, until one works.
    pub fn modes(&self) -> &'static [PgSslMode] {
        match self.ssl {
            PgSslMode::Disable => &[PgSslMode::Disable],
            PgSslMode::Allow => &[PgSslMode::Disable, PgSslMode::Require],
            PgSslMode::Prefer => &[PgSslMode::Require, PgSslMode::Disable],
            PgSslMode::Require => &[PgSslMode::Require],
            PgSslMode::VerifyCa => &[PgSslMode::VerifyCa],
            PgSslMode::VerifyFull => &[PgSslMode::VerifyFull],
        }
    }
}

/// A `/`, `?` or `#` in a password ends the URL's authority: the rest of the password would be taken for a database
/// name, and be shown.
fn no_stray_characters(text: &str) -> Result<(), String> {
    let after = text.split_once("://").map_or("", |(_, after)| after);
    let rest = after.find(['/', '?', '#']).map_or("", |end| &after[end..]);
    if rest.contains(['@', '#']) {
        return Err(
            "has a special character in it: in user names, passwords and database names `@` is written %40, `/` %2F, \
                    `#` %23, `?` %3F and `%` %25"
                .to_owned(),
        );
    }
    Ok(())
}

fn ssl_mode(mode: Option<&str>, root: Option<&str>) -> Result<PgSslMode, String> {
    let system = root == Some(SYSTEM_ROOTS);
    let mode = match mode {
        None if system => PgSslMode::VerifyFull,
        None | Some("prefer") => PgSslMode::Prefer,
        Some("disable") => PgSslMode::Disable,
        Some("allow") => PgSslMode::Allow,
        // libpq's rule: with `sslrootcert`, the certificate is checked.
        Some("require") if root.is_some() => PgSslMode::VerifyCa,
        Some("require") => PgSslMode::Require,
        Some("verify-ca") => PgSslMode::VerifyCa,
        Some("verify-full") => PgSslMode::VerifyFull,
        Some(_) => {
            return Err("sslmode must be disable, allow, prefer, require, verify-ca or verify-full".to_owned());
        }
    };
    if system && !matches!(mode, PgSslMode::VerifyFull) {
        return Err("sslrootcert=system goes with sslmode=verify-full only".to_owned());
    }
    if root.is_none() && matches!(mode, PgSslMode::VerifyCa) {
        return Err("sslmode=verify-ca needs sslrootcert=FILE, the authority that is trusted".to_owned());
    }
    Ok(mode)
}

/// The driver trusts the system's authorities besides `sslrootcert`. If host names are checked, none of them vouches
/// for another host; if they are not, each of them would accept anybody with any certificate.
fn nobody_else_is_trusted(file: &str, system: Option<&str>) -> Result<(), String> {
    if system == Some(file) {
        return Ok(());
    }
    Err("sslmode=verify-ca (which require with an sslrootcert means, too) would trust the system's authorities as well, for any \
         host: use verify-full, or set SSL_CERT_FILE to the same file as sslrootcert"
        .to_owned())
}

fn socket(options: &PgConnectOptions) -> Option<String> {
    let folder = match options.get_socket() {
        Some(folder) => folder.as_path(),
        None => Path::new(options.get_host()),
    };
    let named = folder.join(format!(".s.PGSQL.{}", options.get_port()));
    folder.is_absolute().then(|| named.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        Target::parse(url).err().unwrap_or_else(|| panic!("{url} is understood"))
    }

    #[test]
    fn the_place_is_told_and_the_password_is_not() {
        let cases = [
            ("postgres://u:p%40ss%2F@db.example:5433/shop", "db.example:5433"),
            ("postgresql://u@127.0.0.1/shop", "127.0.0.1:5432"),
            ("postgres://u@[::1]:5433/shop", "::1:5433"),
            ("postgres://u@localhost/shop?host=/run/pg", "/run/pg/.s.PGSQL.5432"),
            ("postgres://u@%2Frun%2Fpg:99/shop", "/run/pg/.s.PGSQL.99"),
            ("postgres:///shop?host=/run/pg&port=98&user=u", "/run/pg/.s.PGSQL.98"),
        ];
        for (url, place) in cases {
            assert_eq!(Target::parse(url).unwrap_or_else(|why| panic!("{url}: {why}")).place, place, "{url}");
        }
        let target = Target::parse("postgres://%C3%A9:p%40ss%3Aw%2Frd%3F%23%25@db/My%20Shop").unwrap();
        assert_eq!((target.options.get_username(), target.options.get_database()), ("é", Some("My Shop")));
    }

    #[test]
    fn a_password_that_ends_the_authority_is_never_shown() {
        for password in ["12#34", "12/34", "12?34", "se/cret", "se#cret", "se?cret", "12/34@x", "a@b/cret"] {
            let url = format!("postgres://shop:{password}@127.0.0.1/shop");
            let told = refusal(&url);
            assert!(told.contains("%40") && !told.contains("34") && !told.contains("cret"), "{url}: {told}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let told = refusal("postgres://u:secret@db/shop?channel_binding=require");
        assert!(told.contains("channel_binding") && !told.contains("secret"), "{told}");
        let told = refusal("postgres://u:secret@db:port/shop");
        assert!(told.contains("port") && !told.contains("secret"), "{told}");
        assert!(refusal("postgres://u@db/shop?sslmode=on").contains("verify-full"));
    }

    #[test]
    fn encryption_is_what_libpq_means() {
        use PgSslMode as Mode;
        let modes = |rest: &str| {
            let target =
                Target::parse(&format!("postgres://u@db/shop{rest}")).unwrap_or_else(|why| panic!("{rest}: {why}"));
            target.modes().iter().map(|mode| format!("{mode:?}")).collect::<Vec<_>>().join(" ")
        };
        let show = |modes: &[Mode]| modes.iter().map(|mode| format!("{mode:?}")).collect::<Vec<_>>().join(" ");
        assert_eq!(modes(""), show(&[Mode::Require, Mode::Disable]));
        assert_eq!(modes("?sslmode=prefer"), show(&[Mode::Require, Mode::Disable]));
        assert_eq!(modes("?sslmode=allow"), show(&[Mode::Disable, Mode::Require]));
        assert_eq!(modes("?sslmode=disable"), show(&[Mode::Disable]));
        assert_eq!(modes("?sslmode=require"), show(&[Mode::Require]));
        assert_eq!(modes("?sslmode=verify-full"), show(&[Mode::VerifyFull]));
        assert_eq!(modes("?sslmode=verify-full&sslrootcert=ca.pem"), show(&[Mode::VerifyFull]));
        assert_eq!(modes("?sslrootcert=system"), show(&[Mode::VerifyFull]));
        // A socket's file is as private as its directory.
        assert_eq!(modes("?sslmode=verify-full&host=/run/pg"), show(&[Mode::Disable]));
        for wrong in ["?sslmode=require&sslrootcert=system", "?sslmode=verify-ca"] {
            assert!(refusal(&format!("postgres://u@db/shop{wrong}")).contains("sslrootcert"), "{wrong}");
        }
    }

    #[test]
    fn without_names_only_the_named_authority_is_trusted() {
        assert!(nobody_else_is_trusted("ca.pem", None).is_err());
        assert!(nobody_else_is_trusted("ca.pem", Some("/etc/ssl/certs.pem")).is_err());
        assert_eq!(nobody_else_is_trusted("ca.pem", Some("ca.pem")), Ok(()));
        let told = refusal("postgres://u@db/shop?sslmode=require&sslrootcert=nowhere.pem");
        assert!(told.contains("SSL_CERT_FILE"), "{told}");
        assert!(matches!(ssl_mode(Some("require"), Some("ca.pem")), Ok(PgSslMode::VerifyCa)));
    }
}
