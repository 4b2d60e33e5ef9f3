//! Connections to a Postgres: encryption, limits of connections, and errors that waiting does not cure.

use crate::fixtures::user;
use crate::postgres::PrivatePostgres;
use livedrop::storage::{Store, StoreError, StoreOptions, connect, connect_with};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sqlx::{Connection, PgConnection};
use std::sync::Arc;

/// A certificate authority, and its server certificate for `localhost` alone.
struct Authority {
    folder: tempfile::TempDir,
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("it is written");
        Self { folder, certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn root(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    /// A server with this certificate. The user `guarded` must connect encrypted.
    fn server(&self) -> PrivatePostgres {
        let settings = "ssl = on\nssl_cert_file = 'tls.crt'\nssl_key_file = 'tls.key'";
        let access = "hostnossl all guarded all reject";
        PrivatePostgres::customised(settings, access, &[("tls.crt", &self.certificate), ("tls.key", &self.key)])
    }
}

/// Whether the server reports the store's connection as encrypted; the error if it is refused.
async fn encrypted(server: &PrivatePostgres, url: &str) -> Result<bool, String> {
    let store = match connect(url).await {
        Ok(store) => store,
        Err(StoreError::Refused(reason)) => return Err(reason),
        Err(other) => panic!("{url}: waiting would not help: {other}"),
    };
    store.ping().await.expect("a connection");
    let mut sql = PgConnection::connect(&server.url("postgres")).await.expect("postgres answers");
    let query =
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'livedrop'";
    let answer = sqlx::query_scalar::<_, Option<bool>>(query).fetch_one(&mut sql).await.expect("an answer");
    store.close().await;
    // The server takes a moment to notice the end of a connection.
    let gone = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'livedrop'";
    while sqlx::query_scalar::<_, i64>(gone).fetch_one(&mut sql).await.expect("a count") > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    Ok(answer.expect("the store is connected"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_encrypted_as_its_url_asks_for() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = authority.server();
    server.run("CREATE ROLE guarded LOGIN").await;
    let port = server.port();
    let at = |who: &str, host: &str, rest: &str| format!("postgres://{who}@{host}:{port}/postgres{rest}");
    for (rest, expected) in [
        ("", true),
        ("?sslmode=prefer", true),
        ("?sslmode=require", true),
        ("?sslmode=disable", false),
        ("?sslmode=allow", false),
    ] {
        assert_eq!(encrypted(&server, &at("livedrop", "127.0.0.1", rest)).await, Ok(expected), "{rest}");
    }
    // `guarded` must be encrypted: `allow` tries encryption second.
    assert_eq!(encrypted(&server, &at("guarded", "127.0.0.1", "?sslmode=allow")).await, Ok(true));
    let refused = encrypted(&server, &at("guarded", "127.0.0.1", "?sslmode=disable")).await.unwrap_err();
    assert!(refused.contains("pg_hba.conf"), "{refused}");

    let full = |authority: &Authority| format!("?sslmode=verify-full&sslrootcert={}", authority.root());
    assert_eq!(encrypted(&server, &at("livedrop", "localhost", &full(&authority))).await, Ok(true));
    for (host, rest) in
        [("127.0.0.1", full(&authority)), ("localhost", full(&other)), ("localhost", "?sslmode=verify-full".to_owned())]
    {
        let refused = encrypted(&server, &at("livedrop", host, &rest)).await.unwrap_err();
        assert!(
            refused.contains("no encrypted connection") && refused.contains("certificate"),
            "{host} {rest}: {refused}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_tls_at_the_server_only_what_insists_is_refused() {
    let server = PrivatePostgres::new();
    let at = |rest: &str| format!("{}{rest}", server.url("postgres"));
    for rest in ["", "?sslmode=prefer", "?sslmode=allow", "?sslmode=disable"] {
        assert_eq!(encrypted(&server, &at(rest)).await, Ok(false), "{rest}");
    }
    for rest in ["?sslmode=require", "?sslmode=verify-full"] {
        let refused = encrypted(&server, &at(rest)).await.unwrap_err();
        assert!(refused.contains("does not support TLS"), "{rest}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waiting_does_not_cure_is_told_with_its_reason_and_without_its_password() {
    let server = PrivatePostgres::customised("", "host all shop all scram-sha-256", &[]);
    for sql in [
        "CREATE ROLE shop LOGIN PASSWORD 'p@ss:w/rd?#%&+ é'",
        "CREATE DATABASE shop OWNER shop",
        "CREATE DATABASE closed",
        "REVOKE CONNECT ON DATABASE closed FROM public",
    ] {
        server.run(sql).await;
    }
    let port = server.port();
    let at = |who: &str, database: &str| format!("postgres://{who}@127.0.0.1:{port}/{database}");
    let right = "shop:p%40ss%3Aw%2Frd%3F%23%25%26%2B%20%C3%A9";
    let store = connect(&at(right, "shop")).await.expect("the right password");
    store.migrate().await.expect("the database is the role's own");
    for (url, reason) in [
        (at("shop:s3cret", "shop"), "password authentication failed for user \"shop\""),
        (at("shop", "shop"), "password authentication failed for user \"shop\""),
        (at("nobody9:s3cret", "shop"), "role \"nobody9\" does not exist"),
        (at("livedrop:s3cret", "nodb"), "database \"nodb\" does not exist"),
        (at(right, "closed"), "permission denied for database \"closed\""),
        (at("shop:s3cret/x", "shop"), "special character"),
        ("mysql://root:s3cret@localhost/".to_owned(), "must begin with postgres:// or sqlite://"),
    ] {
        let Err(StoreError::Refused(told)) = connect(&url).await.map(|_| ()) else { panic!("{url}") };
        assert!(told.contains(reason) && !told.contains("s3cret") && !told.contains("p@ss"), "{url}: {told}");
    }
}

/// <https://www.postgresql.org/docs/current/sql-createrole.html>: `CONNECTION LIMIT`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_never_more_connections_than_the_role_may_have() {
    let server = PrivatePostgres::new();
    for limit in [1, 2, 3, 5] {
        server.run(&format!("CREATE ROLE small{limit} LOGIN CONNECTION LIMIT {limit}")).await;
        server.run(&format!("CREATE DATABASE small{limit} OWNER small{limit}")).await;
        let url = format!("postgres://small{limit}@127.0.0.1:{}/small{limit}", server.port());
        let store = connect(&url).await.expect("a place for one");
        store.migrate().await.expect("a place for one");
        works_under_a_crowd(&store).await;
        store.close().await;
    }
    let options = StoreOptions { connections: 3, ..StoreOptions::default() };
    let store = connect_with(&server.fresh_database().await, &options).await.expect("a connection");
    store.migrate().await.expect("a schema");
    works_under_a_crowd(&store).await;
    let mut sql = PgConnection::connect(&server.url("postgres")).await.expect("postgres answers");
    let query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'livedrop' AND usename = 'livedrop'";
    assert_eq!(sqlx::query_scalar::<_, i64>(query).fetch_one(&mut sql).await.expect("a count"), 3);
}

async fn works_under_a_crowd(store: &Arc<dyn Store>) {
    let crowd = (0..40).map(|n| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let user = user(&format!("crowd{n}@example.com"));
            store.insert_user(&user).await?;
            store.user(user.id).await
        })
    });
    for one in futures_util::future::join_all(crowd).await {
        assert!(one.expect("no panic").expect("a connection").is_some());
    }
}
