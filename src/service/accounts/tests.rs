//! Accounts over a store of hash maps: what matters here is the order of calls, not SQL.

use super::*;
use crate::domain::{DropId, KeyDigest, OrderId, OrderView, ProductId};
use crate::service::clock::Clock;
use crate::service::passwords::Hashing;
use crate::storage::{
    Creator, DropFilter, DropRow, KeyAnswer, Product, ProjectionBatch, RefusalRow, StoreError, Watermark,
};
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::Mutex;

#[derive(Default)]
struct Rows {
    users: Mutex<Vec<User>>,
    tokens: Mutex<HashMap<[u8; 32], RefreshToken>>,
}

#[async_trait]
impl Store for Rows {
    fn kind(&self) -> &'static str {
        "memory"
    }
    async fn insert_user(&self, user: &User) -> Result<(), StoreError> {
        let mut users = self.users.lock().unwrap();
        if users.iter().any(|other| other.email == user.email) {
            return Err(StoreError::Taken { what: "email" });
        }
        users.push(user.clone());
        Ok(())
    }
    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        Ok(self.users.lock().unwrap().iter().find(|user| user.id == id).cloned())
    }
    async fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError> {
        Ok(self.users.lock().unwrap().iter().find(|user| user.email == email).cloned())
    }
    async fn insert_refresh_token(&self, token: &RefreshToken) -> Result<(), StoreError> {
        self.tokens.lock().unwrap().insert(token.hash, token.clone());
        Ok(())
    }
    async fn refresh_token(&self, hash: &[u8; 32]) -> Result<Option<RefreshToken>, StoreError> {
        Ok(self.tokens.lock().unwrap().get(hash).cloned())
    }
    async fn rotate_refresh_token(
        &self,
        old: &[u8; 32],
        at: Timestamp,
        new: &RefreshToken,
    ) -> Result<bool, StoreError> {
        let mut tokens = self.tokens.lock().unwrap();
        match tokens.get_mut(old) {
            Some(row) if row.used_at.is_none() && row.revoked_at.is_none() => row.used_at = Some(at),
            _ => return Ok(false),
        }
        tokens.insert(new.hash, new.clone());
        Ok(true)
    }
    async fn revoke_refresh_family(&self, family: Uuid, at: Timestamp) -> Result<(), StoreError> {
        for row in self.tokens.lock().unwrap().values_mut().filter(|row| row.family == family) {
            row.revoked_at.get_or_insert(at);
        }
        Ok(())
    }
    async fn creator(&self, _: CreatorId) -> Result<Option<Creator>, StoreError> {
        Ok(None)
    }

    // The rest is not for accounts to call.
    async fn ping(&self) -> Result<(), StoreError> {
        unreachable!()
    }
    async fn migrate(&self) -> Result<(), StoreError> {
        unreachable!()
    }
    async fn close(&self) {}
    async fn insert_creator(&self, _: &Creator) -> Result<(), StoreError> {
        unreachable!()
    }
    async fn creators(&self, _: Option<CreatorId>, _: u32) -> Result<Vec<Creator>, StoreError> {
        unreachable!()
    }
    async fn follow(&self, _: UserId, _: CreatorId, _: Timestamp) -> Result<bool, StoreError> {
        unreachable!()
    }
    async fn unfollow(&self, _: UserId, _: CreatorId) -> Result<bool, StoreError> {
        unreachable!()
    }
    async fn follows(&self, _: UserId, _: CreatorId) -> Result<bool, StoreError> {
        unreachable!()
    }
    async fn following(&self, _: UserId, _: Option<CreatorId>, _: u32) -> Result<Vec<CreatorId>, StoreError> {
        unreachable!()
    }
    async fn followers(&self, _: CreatorId, _: Option<UserId>, _: u32) -> Result<Vec<UserId>, StoreError> {
        unreachable!()
    }
    async fn insert_product(&self, _: &Product) -> Result<(), StoreError> {
        unreachable!()
    }
    async fn product(&self, _: ProductId) -> Result<Option<Product>, StoreError> {
        unreachable!()
    }
    async fn products(&self, _: Option<CreatorId>, _: Option<ProductId>, _: u32) -> Result<Vec<Product>, StoreError> {
        unreachable!()
    }
    async fn watermark(&self, _: Uuid) -> Result<Option<Watermark>, StoreError> {
        unreachable!()
    }
    async fn project(&self, _: &ProjectionBatch) -> Result<(), StoreError> {
        unreachable!()
    }
    async fn drop_row(&self, _: DropId) -> Result<Option<DropRow>, StoreError> {
        unreachable!()
    }
    async fn drops(&self, _: DropFilter, _: Option<DropId>, _: u32) -> Result<Vec<DropRow>, StoreError> {
        unreachable!()
    }
    async fn unsettled_drops(&self) -> Result<Vec<DropRow>, StoreError> {
        unreachable!()
    }
    async fn drop_orders(&self, _: DropId, _: Option<OrderId>, _: u32) -> Result<Vec<OrderView>, StoreError> {
        unreachable!()
    }
    async fn drop_refusals(&self, _: DropId, _: Option<u64>, _: u32) -> Result<Vec<RefusalRow>, StoreError> {
        unreachable!()
    }
    async fn order(&self, _: OrderId) -> Result<Option<OrderView>, StoreError> {
        unreachable!()
    }
    async fn orders_of(&self, _: UserId, _: Option<OrderId>, _: u32) -> Result<Vec<OrderView>, StoreError> {
        unreachable!()
    }
    async fn answer_for_key(&self, _: KeyDigest) -> Result<Option<KeyAnswer>, StoreError> {
        unreachable!()
    }
}

fn accounts() -> (Accounts, Tokens, Clock) {
    let clock = Clock::default();
    let tokens = Tokens::new(b"0123456789abcdef0123456789abcdef", 900, clock.clone());
    (Accounts::new(Arc::new(Rows::default()), Passwords::new(Hashing::Rehearsal), tokens.clone()), tokens, clock)
}

fn ada() -> NewAccount {
    NewAccount { email: " Ada@Example.COM ".into(), password: "correct horse".into(), display_name: "Ada".into() }
}

fn code<T>(result: Result<T, Failure>) -> Code {
    result.err().expect("a failure").code
}

#[tokio::test]
async fn whoever_registers_is_signed_in_and_logs_in_again_in_any_case() {
    let (accounts, tokens, _) = accounts();
    let signed = accounts.register(ada()).await.unwrap();
    assert_eq!(signed.account.user.email, "ada@example.com");
    assert_eq!(tokens.verify(&signed.access_token).unwrap().user, signed.account.user.id);
    assert_eq!(code(accounts.register(ada()).await), Code::EmailTaken);

    let again = accounts.login("ADA@example.com", "correct horse".into()).await.unwrap();
    assert_eq!(again.account.user.id, signed.account.user.id);
    assert_eq!(code(accounts.login("ada@example.com", "wrong horse".into()).await), Code::InvalidCredentials);
    assert_eq!(code(accounts.login("bob@example.com", "correct horse".into()).await), Code::InvalidCredentials);
    assert_eq!(accounts.me(signed.account.user.id).await.unwrap().user.display_name, "Ada");
    assert_eq!(code(accounts.me(UserId::new()).await), Code::UserNotFound);
}

#[tokio::test]
async fn a_refresh_token_used_again_within_the_grace_gets_another_one() {
    let (accounts, _, clock) = accounts();
    let first = accounts.register(ada()).await.unwrap().refresh_token;
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
    let (accounts, _, clock) = accounts();
    let first = accounts.register(ada()).await.unwrap().refresh_token;
    let elsewhere = accounts.login("ada@example.com", "correct horse".into()).await.unwrap().refresh_token;
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
    let (accounts, _, clock) = accounts();
    let token = accounts.register(ada()).await.unwrap().refresh_token;
    accounts.logout("never issued").await.unwrap();
    accounts.logout(&token).await.unwrap();
    accounts.logout(&token).await.unwrap();
    assert_eq!(code(accounts.refresh(&token).await), Code::RefreshTokenInvalid);
    assert_eq!(code(accounts.refresh("never issued").await), Code::RefreshTokenInvalid);

    let token = accounts.login("ada@example.com", "correct horse".into()).await.unwrap().refresh_token;
    clock.shift(31 * 24 * 3_600 * 1_000);
    assert_eq!(code(accounts.refresh(&token).await), Code::RefreshTokenInvalid);
}
