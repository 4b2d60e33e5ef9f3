//! Behind PgBouncer in transaction mode, where the store has a server session for one transaction only.

use crate::fixtures::{Journal, Sale, user};
use crate::pgbouncer::Pooler;
use crate::postgres::PrivatePostgres;
use livedrop::storage::{Store, StoreError, connect};
use sqlx::{Connection, Executor, PgConnection};
use std::sync::Arc;

/// Makes a database that records the settings under which an account is written.
async fn noting(server: &PrivatePostgres, store: &Arc<dyn Store>, database: &str) -> PgConnection {
    store.migrate().await.expect("a pooler does not stop a migration");
    let mut sql = PgConnection::connect(&server.url(database)).await.expect("postgres answers");
    let note = "CREATE TABLE noted (synchronous_commit TEXT, statement_timeout TEXT);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO noted VALUES (current_setting('synchronous_commit'), current_setting('statement_timeout'));
            RETURN NULL; END $$;
        CREATE TRIGGER noting AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION note()";
    sql.execute(note).await.expect("a trigger");
    sql
}

/// Startup parameters are refused or ignored, yet a transaction has its settings, and leaves none of them in the
/// session for the next client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_transaction_brings_its_settings_and_leaves_nothing() {
    let server = PrivatePostgres::new();
    for (database, settings) in
        [("refusing", ""), ("ignoring", "ignore_startup_parameters = extra_float_digits,options")]
    {
        server.run(&format!("CREATE DATABASE {database}")).await;
        let pooler = Pooler::of_transactions(&server, 2, settings);
        let store = connect(&pooler.url(database)).await.expect("a pooler is no obstacle");
        let mut sql = noting(&server, &store, database).await;
        store.migrate().await.expect("twice is once");
        let (first, second) = (store, connect(&pooler.url(database)).await.expect("and a second process"));
        let crowd = (0..40).map(|n| {
            let store = Arc::clone(if n % 2 == 0 { &first } else { &second });
            tokio::spawn(async move {
                let user = user(&format!("{n}@example.com"));
                store.insert_user(&user).await?;
                store.user(user.id).await
            })
        });
        for one in futures_util::future::join_all(crowd).await {
            assert!(one.expect("no panic").expect("a connection").is_some(), "{database}");
        }
        let query = "SELECT count(*) FROM noted WHERE synchronous_commit = 'on' AND statement_timeout = '20s'";
        assert_eq!(sqlx::query_scalar::<_, i64>(query).fetch_one(&mut sql).await.expect("a count"), 40, "{database}");
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
        assert_eq!(sqlx::query_scalar::<_, i64>(locks).fetch_one(&mut sql).await.expect("a count"), 0, "{database}");
        // The next client finds the server's own settings in the pooler's sessions.
        let mut next = PgConnection::connect_with(
            &pooler.url(database).parse::<sqlx::postgres::PgConnectOptions>().expect("a url").extra_float_digits(None),
        )
        .await
        .expect("the pooler answers");
        let left = "SELECT current_setting('statement_timeout') || current_setting('synchronous_commit')";
        assert_eq!(
            sqlx::query_scalar::<_, String>(left).fetch_one(&mut next).await.expect("text"),
            "0off",
            "{database}"
        );
        first.close().await;
        second.close().await;
    }
}

/// Of many concurrent starts, one migrates.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_migrate_at_once_through_a_pooler_wait_for_each_other() {
    let server = PrivatePostgres::new();
    server.run("CREATE DATABASE many").await;
    let pooler = Pooler::of_transactions(&server, 6, "");
    let starts = (0..4).map(|_| {
        let url = pooler.url("many");
        tokio::spawn(async move { connect(&url).await?.migrate().await })
    });
    for one in futures_util::future::join_all(starts).await {
        one.expect("no panic").expect("a schema");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_through_a_pooler_is_whole() {
    let server = PrivatePostgres::new();
    server.run("CREATE DATABASE projected").await;
    let pooler = Pooler::of_transactions(&server, 2, "");
    let url = pooler.url("projected");
    let store = connect(&url).await.expect("a pooler is no obstacle");
    store.migrate().await.expect("a schema");
    let db = crate::Database::reached_by(store.clone(), server.url("projected"));
    let (mut journal, sale) = (Journal::new(&db), Sale::of(&[1_000]));
    journal.project(sale.opened()).await;
    for batch in 0..10 {
        journal.project((0..64).map(|n| sale.order(0, 1).reserved(batch * 64 + n, None)).collect()).await;
    }
    assert_eq!(sale.stock(&db, 0).await, (1_000 - 640, 640, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_without_prepared_statements_is_refused_by_that_name() {
    let server = PrivatePostgres::new();
    server.run("CREATE DATABASE old").await;
    let pooler = Pooler::of_transactions(&server, 1, "max_prepared_statements = 0");
    let Err(StoreError::Refused(told)) = connect(&pooler.url("old")).await.map(|_| ()) else {
        panic!("it cannot work");
    };
    assert!(told.contains("max_prepared_statements"), "{told}");
}
