//! Accounts in a real SQLite file, with a clock that tests can move.

use super::*;
use crate::domain::TraceId;
use crate::service::activity::Nothing;
use crate::service::clock::Clock;
use crate::service::hash_queue::HashQueue;
use crate::service::identity::Email;
use crate::service::passwords::Hashing;
use crate::service::revocations::Revocations;
use crate::service::tokens::Access;
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
        let (passwords, locks) = (Passwords::with_queue(Hashing::Rehearsal, queue), AccountLocks::default());
        let accounts = Accounts::new(store, passwords, tokens.clone(), Arc::new(Nothing), locks);
        Self { accounts, tokens, clock, _folder: folder }
    }
}

const VISITOR: Visitor = Visitor { origin: None, trace: TraceId(Uuid::nil()) };

fn ada() -> NewAccount {
    NewAccount { email: email(" Ada@Example.COM "), password: "correct horse".into(), display_name: "Ada".into() }
}

fn email(text: &str) -> Email {
    identity::new_email(text.to_owned()).expect("an address")
}

/// The hash of a password in the form in which it was typed, as older versions stored it.
async fn hashed_as_typed(password: &str) -> String {
    let about = ["x@example.com", "x"].map(str::to_owned);
    let text = NewPassword { text: password.to_owned(), about, pointer: "" };
    Passwords::new(Hashing::Rehearsal).hash(text, Purpose::Login, 1).await.unwrap()
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
async fn a_refresh_token_used_again_within_the_grace_gets_the_same_successor() {
    let World { accounts, tokens, clock, .. } = &World::new().await;
    let first = accounts.register(&VISITOR, ada()).await.unwrap().refresh_token;
    let second = accounts.refresh(&first).await.unwrap().refresh_token;
    clock.shift(REFRESH_GRACE_MS - 1_000);
    let again = accounts.refresh(&first).await.unwrap();
    assert_eq!(again.refresh_token, second);
    tokens.verify(&again.access_token).unwrap();
    // The successor was exchanged too: its own successor is returned, which is valid.
    let third = accounts.refresh(&second).await.unwrap().refresh_token;
    assert_ne!(second, third);
    assert_eq!(accounts.refresh(&first).await.unwrap().refresh_token, third);
    accounts.refresh(&third).await.unwrap();
}

#[tokio::test]
async fn a_crowd_of_refreshes_with_one_token_gets_one_successor() {
    let World { accounts, .. } = &World::new().await;
    let first = accounts.register(&VISITOR, ada()).await.unwrap().refresh_token;
    let crowd = (0..50).map(|_| accounts.refresh(&first));
    let all = futures_util::future::try_join_all(crowd).await.unwrap();
    assert!(all.iter().all(|one| one.refresh_token == all[0].refresh_token));
    assert_eq!(accounts.tokens.successor(&first), all[0].refresh_token);
}

#[tokio::test]
async fn whatever_ends_a_login_ends_its_access_tokens_at_once() {
    let World { accounts, tokens, clock, .. } = &World::new().await;
    let login = async || accounts.login(&VISITOR, "ada@example.com", "correct horse".into()).await.unwrap();
    let registered = accounts.register(&VISITOR, ada()).await.unwrap();
    let (left, stolen, other) = (login().await, login().await, login().await);
    let caller = |signed: &SignedIn| Caller {
        user: registered.account.user.id,
        role: Role::User,
        login: tokens.verify(&signed.access_token).unwrap().login,
        origin: None,
        trace: crate::domain::TraceId::random(),
    };
    let good = |signed: &SignedIn| tokens.verify(&signed.access_token).map(|_| ());
    accounts.logout(&left.refresh_token).await.unwrap();
    assert_eq!(code(good(&left)), Code::TokenRevoked);
    let next = accounts.refresh(&stolen.refresh_token).await.unwrap();
    clock.shift(REFRESH_GRACE_MS + 1);
    assert_eq!(code(accounts.refresh(&stolen.refresh_token).await), Code::RefreshTokenInvalid);
    assert_eq!((code(good(&stolen)), code(good(&next))), (Code::TokenRevoked, Code::TokenRevoked));
    good(&other).unwrap();

    let (password, new) = ("correct horse".to_owned(), "battery staple".to_owned());
    let changed = accounts.change_password(&caller(&other), password.clone(), new.clone()).await.unwrap();
    assert_eq!((code(good(&registered)), code(good(&other))), (Code::TokenRevoked, Code::TokenRevoked));
    good(&changed).unwrap();
    let mine = caller(&changed);
    assert_eq!(code(accounts.change_password(&mine, password.clone(), new.clone()).await), Code::WrongPassword);
    accounts.logout_everywhere(&mine).await.unwrap();
    assert_eq!(code(good(&changed)), Code::TokenRevoked);
    let last = accounts.login(&VISITOR, "ada@example.com", new.clone()).await.unwrap();
    good(&last).unwrap();
    assert_eq!(code(accounts.delete(&mine, password).await), Code::WrongPassword);
    accounts.delete(&mine, new).await.unwrap();
    assert_eq!(code(good(&last)), Code::TokenRevoked);

    // A server that starts now reads it from the database.
    let started = Revocations::new(clock.clone(), crate::service::Outage::default());
    started.recover(&*accounts.store).await.unwrap();
    for signed in [&left, &stolen, &registered, &changed, &last] {
        let Access { user, login, .. } = tokens_after_the_fact(&signed.access_token, clock);
        assert!(started.covers(user, login));
    }
}

/// The contents of a token, without any revocation.
fn tokens_after_the_fact(token: &str, clock: &Clock) -> Access {
    Tokens::new(b"0123456789abcdef0123456789abcdef", 900, clock.clone()).verify(token).unwrap()
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
    // A revoked token stays revoked, within the grace period too.
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
    // The permit is not given back: the flood stays in the queue.
    let running = queue.permit(Purpose::Login, 0).await.unwrap();
    let flood = (0..300).map(|n| {
        let accounts = accounts.clone();
        tokio::spawn(async move {
            let new = NewAccount { email: email(&format!("{n}@example.com")), ..ada() };
            let registered = accounts.register(&flooder, new).await.map(drop);
            registered.and(accounts.login(&flooder, "nobody@example.com", "wrong horse".into()).await.map(drop))
        })
    });
    let flood: Vec<_> = flood.collect();
    // 32 registrations, and 32 logins of those that were refused.
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

#[tokio::test]
async fn an_address_and_a_password_are_the_same_in_every_form() {
    let World { accounts, .. } = &World::new().await;
    let new = |address: &str, password: &str| NewAccount {
        email: email(address),
        password: identity::new_password(password.to_owned()).expect("a password"),
        display_name: "Zoë".into(),
    };
    let account =
        accounts.register(&VISITOR, new("zoe\u{308}@m\u{fc}nchen.de", "caf\u{e9} caf\u{e9}")).await.unwrap().account;
    assert_eq!(account.user.email, "zo\u{eb}@m\u{fc}nchen.de");
    for twin in ["zo\u{eb}@xn--mnchen-3ya.de", "ZOE\u{308}@MU\u{308}NCHEN.DE"] {
        assert_eq!(code(accounts.register(&VISITOR, new(twin, "correct horse")).await), Code::EmailTaken, "{twin}");
        let signed = accounts.login(&VISITOR, twin, "cafe\u{301} cafe\u{301}".into()).await.unwrap();
        assert_eq!(signed.account.user.id, account.user.id);
    }
    let nobody = accounts.login(&VISITOR, &"a".repeat(100_000), "correct horse".into()).await;
    assert_eq!(code(nobody), Code::InvalidCredentials);
}

#[tokio::test]
async fn accounts_from_before_there_were_keys_get_theirs_and_the_younger_twin_signs_in_as_it_registered() {
    let World { accounts, .. } = &World::new().await;
    let old = async |address: &str, password: &str| {
        let password_hash = hashed_as_typed(password).await;
        let user = accounts.new_user(ada(), Role::User, 1).await.unwrap();
        let user = User { email: address.into(), email_key: None, password_hash, ..user };
        accounts.store.insert_user(&user).await.unwrap();
        user.id
    };
    // Hashed as it was typed, as older versions did.
    let elder = old("caf\u{e9}@example.com", "cafe\u{301} au lait").await;
    let younger = old("cafe\u{301}@example.com", "correct horse").await;
    let other = old("b\u{fc}cher@example.com", "correct horse").await;
    for _ in 0..2 {
        assert_eq!(identity::key_accounts(&*accounts.store).await.unwrap(), 1);
    }
    let id = async |address: &str, password: &str| {
        accounts.login(&VISITOR, address, password.into()).await.map(|signed| signed.account.user.id)
    };
    for password in ["cafe\u{301} au lait", "caf\u{e9} au lait", "cafe\u{301} au lait"] {
        assert_eq!(id("CAF\u{c9}@example.com", password).await, Ok(elder), "{password:?}");
    }
    assert_eq!(id("cafe\u{301}@example.com", "correct horse").await, Ok(younger));
    assert_eq!(id("bu\u{308}cher@example.com", "correct horse").await, Ok(other));
    let twin = NewAccount { email: email("cafe\u{301}@example.com"), ..ada() };
    assert_eq!(code(accounts.register(&VISITOR, twin).await), Code::EmailTaken);
}

#[tokio::test]
async fn logins_at_once_of_an_old_hash_all_succeed_and_so_does_a_change_of_the_password_beside_them() {
    let World { accounts, .. } = &World::new().await;
    let typed = "cafe\u{301} au lait";
    let user = accounts.new_user(ada(), Role::User, 1).await.unwrap();
    let user = User { password_hash: hashed_as_typed(typed).await, ..user };
    accounts.store.insert_user(&user).await.unwrap();
    let login = || accounts.login(&VISITOR, "ada@example.com", typed.into());
    let (one, two, three) = tokio::join!(login(), login(), login());
    for signed in [one, two, three] {
        assert_eq!(signed.unwrap().account.user.id, user.id);
    }
    // A concurrent change of the password either comes after the login, or makes the password wrong.
    let now = accounts.store.user(user.id).await.unwrap().unwrap().password_hash;
    assert!(accounts.store.renew_password_hash(user.id, &now, &hashed_as_typed(typed).await).await.unwrap());
    let caller =
        Caller { user: user.id, role: Role::User, login: Login::default(), origin: None, trace: VISITOR.trace };
    let change = accounts.change_password(&caller, typed.into(), "correct horse battery".into());
    let (changed, signed) = tokio::join!(change, login());
    changed.unwrap();
    assert!(signed.is_ok() || signed.err().is_some_and(|failure| failure.code == Code::InvalidCredentials));
    assert_eq!(code(login().await), Code::InvalidCredentials);
}

#[tokio::test]
async fn a_password_that_is_about_the_account_is_refused_wherever_one_is_set() {
    let World { accounts, .. } = &World::new().await;
    let easy = NewAccount { password: "ada@example.com".into(), ..ada() };
    let refused = accounts.register(&VISITOR, easy).await.err().unwrap();
    assert_eq!((refused.code, refused.fields[0].pointer.as_str()), (Code::ValidationFailed, "/password"));
    let user = accounts.register(&VISITOR, ada()).await.unwrap().account.user.id;
    let caller = Caller { user, role: Role::User, login: Login::default(), origin: None, trace: VISITOR.trace };
    let refused =
        accounts.change_password(&caller, "correct horse".into(), "ada@example.com".into()).await.err().unwrap();
    assert_eq!((refused.code, refused.fields[0].pointer.as_str()), (Code::ValidationFailed, "/new_password"));
}
