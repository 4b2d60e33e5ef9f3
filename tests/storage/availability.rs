//! Unavailable and unsuitable databases.

use crate::fixtures::{Journal, Sale, user};
use crate::postgres::PrivatePostgres;
use livedrop::storage::{Store, StoreError, connect};
use sqlx::{Connection, Executor, PgConnection};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

fn is_unavailable<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable(_)))
}

#[tokio::test]
async fn a_closed_port_is_unavailable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let started = Instant::now();
    let error = connect(&format!("postgres://nobody:s3cret@127.0.0.1:{port}/nothing")).await.map(|_| ()).unwrap_err();
    let told = error.to_string();
    assert!(matches!(error, StoreError::Unavailable(_)), "{told}");
    assert!(
        told.contains(&format!("127.0.0.1:{port}: ")) && told.contains("refused") && !told.contains("s3cret"),
        "{told}"
    );
    assert!(started.elapsed().as_secs() < 5, "an operation must not wait long for a database that is away");
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_refused_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("no/such/directory/a.db").display());
    let Err(StoreError::Refused(told)) = connect(&url).await.map(|_| ()) else { panic!("{url}") };
    assert!(told.contains("no/such/directory") && told.contains("No such file"), "{told}");
    let file = directory.path().join("text.db");
    std::fs::write(&file, "no database at all. ".repeat(100)).unwrap();
    let Err(StoreError::Refused(told)) = connect(&format!("sqlite://{}", file.display())).await.map(|_| ()) else {
        panic!("text is no database")
    };
    assert!(told.contains("text.db") && told.contains("not a database"), "{told}");
}

#[tokio::test]
async fn an_url_that_is_not_understood_is_told_without_its_password() {
    for url in ["mysql://root:secret@localhost/", "secret", ""] {
        let Err(StoreError::Refused(text)) = connect(url).await.map(|_| ()) else { panic!("{url}") };
        assert!(!text.contains("secret"), "{text}");
    }
}

/// Such a database would accept most rows, and refuse some later.
#[tokio::test]
async fn a_postgres_that_cannot_hold_our_rows_is_refused_in_one_line() {
    let server = PrivatePostgres::new();
    let refusal = async |url: &str| match connect(url).await.unwrap().migrate().await {
        Err(StoreError::Refused(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let run = async |url: &str, sql: &'static str| {
        let mut connection = PgConnection::connect(url).await.unwrap();
        connection.execute(sql).await.unwrap();
    };
    let url = server.fresh_database().await;
    run(&url, "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0").await;
    let reason = refusal(&server.url("latin")).await;
    assert!(reason.contains("LATIN1") && reason.contains("UTF8") && !reason.contains('\n'), "{reason}");

    run(&url, "CREATE ROLE guest LOGIN PASSWORD 'guest'").await;
    run(&url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    let guest = {
        let mut guest = url::Url::parse(&url).unwrap();
        guest.set_username("guest").unwrap();
        guest.set_password(Some("guest")).unwrap();
        guest.to_string()
    };
    let reason = refusal(&guest).await;
    assert!(reason.contains("guest may not create tables in the schema public"), "{reason}");

    // The tables belong to another role.
    connect(&url).await.unwrap().migrate().await.unwrap();
    run(&url, "GRANT CREATE ON SCHEMA public TO guest").await;
    run(&url, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest").await;
    let reason = refusal(&guest).await;
    assert!(reason.contains("guest may not read and write these tables") && reason.contains("watermarks"), "{reason}");
    run(&url, "GRANT ALL ON ALL TABLES IN SCHEMA public TO guest").await;
    connect(&guest).await.unwrap().migrate().await.unwrap();
}

/// The server is killed during a projection and restarted: no half batch is there, and the store recovers by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postgres_is_unavailable_until_it_is_back() {
    let mut server = PrivatePostgres::new();
    let url = server.fresh_database().await;
    let store = connect(&url).await.unwrap();
    store.migrate().await.unwrap();
    let db = crate::Database { store: store.clone(), url, _directory: None };
    let (mut journal, sale) = (Journal::new(&db), Sale::of(&[1_000_000]));
    journal.project(sale.opened()).await;
    let batches: Vec<_> = (0..400)
        .map(|_| {
            let batch = journal.batch((0..64).map(|i| sale.order(0, 1).reserved(i, None)).collect());
            journal.next += 64;
            batch
        })
        .collect();
    let projector = {
        let (store, batches): (Arc<dyn Store>, _) = (store.clone(), batches.clone());
        tokio::spawn(async move {
            for batch in &batches {
                if let Err(error) = store.project(batch).await {
                    return Some(error);
                }
            }
            None
        })
    };
    while store.watermark(journal.id).await.unwrap().unwrap().sequence < 1_000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let server = tokio::task::spawn_blocking(move || {
        server.stop();
        server
    });
    let mut server = server.await.unwrap();
    let error = projector.await.unwrap().expect("it was killed in the middle");
    assert!(is_unavailable::<()>(Err(error)));
    assert!(is_unavailable(store.ping().await));
    assert!(is_unavailable(store.insert_user(&user("late@example.com")).await));
    assert!(is_unavailable(store.project(&batches[0]).await));
    let server = tokio::task::spawn_blocking(move || {
        server.start();
        server
    });
    let _server = server.await.unwrap();
    store.ping().await.unwrap();
    let orders = i64::from(sale.stock(&db, 0).await.1);
    let applied = store.watermark(journal.id).await.unwrap().unwrap().sequence;
    assert_eq!(u64::try_from(orders).unwrap() + 2, applied, "rows and watermark are of one moment");
    for batch in &batches {
        store.project(batch).await.unwrap();
    }
    assert_eq!(sale.stock(&db, 0).await, (1_000_000 - 400 * 64, 400 * 64, 0));
}
