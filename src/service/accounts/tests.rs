//! Accounts over a real SQLite file, and a clock that a test may shift.

use super::*;
use crate::domain::TraceId;
use crate::service::clock::Clock;
use crate::service::hash_queue::HashQueue;
use crate::service::passwords::Hashing;
use crate::storage;

struct World {
    accounts: Accounts,
    tokens: Tokens,
    clock: Clock,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with_queue(HashQueue::for_this_machine()).await
    }

    async fn with_queue(queue: HashQueue) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = storage::connect(&format!("sqlite://{}", folder.path().join("a.db").display())).await.unwrap();
        store.migrate().await.unwrap();
        let clock = Clock::default();
        let tokens = Tokens::new(b"0123456789abcdef0123456789abcdef", 900, clock.clone());
        let passwords = Passwords::with_queue(Hashing::Rehearsal, queue);
        let accounts = Accounts::new(store, passwords, tokens.clone(), Arc::new(|_| false));
        Self { accounts, tokens, clock, _folder: folder }
    }
}

const VISITOR: Visitor = Visitor { origin: None, trace: TraceId(Uuid::nil()) };

fn ada() -> NewAccount {
    NewAccount { email: " Ada@Example.COM ".into(), password: "correct horse".into(), display_name: "Ada".into() }
}

fn code<T>(result: Result<T, Failure>) -> Code {
    result.err().expect("a failure").code
}

#[tokio::test]
async fn whoever_registers_is_signed_in_and_logs_in_again_in_any_case() {
    let World { accounts, tokens, .. } = &World::new().await;
    let signed = accounts.register(&VISITOR, ada()).await.unwrap();
    assert_eq!(signed.account.user.email, "ada@example.com");
    assert_eq!(tokens.verify(&signed.access_token).unwrap().user, signed.account.user.id);
    assert_eq!(code(accounts.register(&VISITOR, ada()).await), Code::EmailTaken);

    let again = accounts.login(&VISITOR, "ADA@example.com", "correct horse".into()).await.unwrap();
    assert_eq!(again.account.user.id, signed.account.user.id);
    assert_eq!(code(accounts.login(&VISITOR, "ada@example.com", "wrong horse".into()).await), Code::InvalidCredentials);
    assert_eq!(
        code(accounts.login(&VISITOR, "bob@example.com", "correct horse".into()).await),
        Code::InvalidCredentials
    );
    assert_eq!(accounts.me(signed.account.user.id).await.unwrap().user.display_name, "Ada");
    assert_eq!(code(accounts.me(UserId::new()).await), Code::UserNotFound);
}

#[tokio::test]
async fn a_refresh_token_used_again_within_the_grace_gets_another_one() {
    let World { accounts, clock, .. } = &World::new().await;
    let first = accounts.register(&VISITOR, ada()).await.unwrap().refresh_token;
    let second = accounts.refresh(&first).await.unwrap().refresh_token;
    clock.shift(REFRESH_GRACE_MS - 1_000);
    let retried = accounts.refresh(&first).await.unwrap().refresh_token;
    assert_ne!(second, retried);
    // Both lines of the family live on.
    accounts.refresh(&second).await.unwrap();
    accounts.refresh(&retried).await.unwrap();
}

#[tokio::test]
async fn a_refresh_token_used_again_later_revokes_every_token_of_its_login_and_no_other() {
    let World { accounts, clock, .. } = &World::new().await;
    let first = accounts.register(&VISITOR, ada()).await.unwrap().refresh_token;
    let elsewhere = accounts.login(&VISITOR, "ada@example.com", "correct horse".into()).await.unwrap().refresh_token;
    let second = accounts.refresh(&first).await.unwrap().refresh_token;
    clock.shift(REFRESH_GRACE_MS + 1);
    assert_eq!(code(accounts.refresh(&first).await), Code::RefreshTokenInvalid);
    assert_eq!(code(accounts.refresh(&second).await), Code::RefreshTokenInvalid);
    // Revoked is revoked, grace or not.
    assert_eq!(code(accounts.refresh(&second).await), Code::RefreshTokenInvalid);
    accounts.refresh(&elsewhere).await.unwrap();
}

#[tokio::test]
async fn a_refresh_token_ends_by_itself_and_by_logging_out() {
    let World { accounts, clock, .. } = &World::new().await;
    let token = accounts.register(&VISITOR, ada()).await.unwrap().refresh_token;
    accounts.logout("never issued").await.unwrap();
    accounts.logout(&token).await.unwrap();
    accounts.logout(&token).await.unwrap();
    assert_eq!(code(accounts.refresh(&token).await), Code::RefreshTokenInvalid);
    assert_eq!(code(accounts.refresh("never issued").await), Code::RefreshTokenInvalid);

    let token = accounts.login(&VISITOR, "ada@example.com", "correct horse".into()).await.unwrap().refresh_token;
    clock.shift(31 * 24 * 3_600 * 1_000);
    assert_eq!(code(accounts.refresh(&token).await), Code::RefreshTokenInvalid);
}

#[tokio::test]
async fn one_network_that_registers_and_logs_in_without_end_does_not_lock_others_out() {
    let queue = HashQueue::new(1, 32);
    let World { accounts, .. } = &World::with_queue(queue.clone()).await;
    accounts.register(&VISITOR, ada()).await.unwrap();
    let flooder = Visitor { origin: Some("192.0.2.1".parse().unwrap()), ..VISITOR };
    // Whoever has it does not give it back: the flood stands in line.
    let running = queue.permit(Purpose::Login, 0).await.unwrap();
    let flood = (0..300).map(|n| {
        let accounts = accounts.clone();
        tokio::spawn(async move {
            let new = NewAccount { email: format!("{n}@example.com"), ..ada() };
            let registered = accounts.register(&flooder, new).await.map(drop);
            registered.and(accounts.login(&flooder, "nobody@example.com", "wrong horse".into()).await.map(drop))
        })
    });
    let flood: Vec<_> = flood.collect();
    // 32 registrations, and of those that were refused 32 logins.
    while queue.waiting() < 64 {
        tokio::task::yield_now().await;
    }
    drop(running);
    let login = accounts.login(&VISITOR, "ada@example.com", "correct horse".into()).await;
    login.expect("others sign in as if nobody else was there");
    let mut refused = 0;
    for one in flood {
        refused += usize::from(code(one.await.unwrap()) == Code::Overloaded);
    }
    assert!(refused >= 300 - 32, "the flood is bounded: {refused}");
}
