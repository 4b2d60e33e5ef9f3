//! Addresses and users for tests.

use super::Address;
use crate::domain::{Login, Timestamp, TraceId, UserId};
use crate::service::Caller;
use crate::service::tokens::Role;
use crate::storage::{Store, User};

/// An address in Germany, different for each number.
pub fn address(number: usize) -> Address {
    Address {
        name: "Ada Lovelace".to_owned(),
        company: None,
        line1: format!("Hauptstraße {number}"),
        line2: None,
        city: Some("Köln".to_owned()),
        region: None,
        postal_code: Some("50667".to_owned()),
        country: "DE".parse().expect("a code"),
        phone: Some("+49 221 5550100".to_owned()),
    }
}

/// Someone who is signed in with a new account.
pub async fn user_in(store: &dyn Store) -> Caller {
    let id = UserId::new();
    let email = format!("{id}@example.com");
    let user = User {
        id,
        email_key: Some(email.clone()),
        email,
        display_name: "Ada".to_owned(),
        password_hash: String::new(),
        role: "user".to_owned(),
        created_at: Timestamp::EPOCH,
        private_follows: true,
        token_version: 0,
    };
    store.insert_user(&user).await.expect("a new account");
    Caller { user: id, role: Role::User, login: Login::default(), origin: None, trace: TraceId::random() }
}
