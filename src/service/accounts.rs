//! Accounts: register, log in, refresh tokens, log out.

mod input;

pub use input::{
    AccountChange, AccountChangeInput, AuditListInput, DeletionInput, LoginInput, NewAccount, PasswordInput,
    RefreshInput, RegistrationInput,
};

use super::caller::{changed_fields, operators_audit};
use super::{
    Caller, Code, Failure, Object, Page, Visitor,
    activity::{AccountLocks, Activity},
    clock::Clock,
    creators::page,
    hash_queue::Purpose,
    identity,
    login_log::LoginLog,
    passwords::{NewPassword, Passwords, Verdict},
    spawn_detached,
    tokens::{self, REFRESH_GRACE_MS, Role, Tokens},
};
use crate::domain::limits::{EMAIL_CHARS_MAX, REFRESH_SUCCESSORS_MAX};
use crate::domain::{CreatorId, Login, Revocation, UserId};
use crate::storage::{AuditFilter, AuditRow, RefreshToken, Store, User, UserChange};
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

#[cfg(test)]
mod tests;

/// The network of the operator's command line: it runs in a process of its own, so it competes with no other network.
const OPERATOR: u128 = 0;

/// An account, and whether it has a creator profile.
#[derive(Clone, Debug)]
pub struct Account {
    pub user: User,
    /// Whether there is a profile.
    pub is_creator: bool,
}

/// The tokens of a login.
#[derive(Clone)]
pub struct SignedIn {
    pub account: Account,
    /// Valid for `expires_in` seconds.
    pub access_token: String,
    /// Valid for one exchange.
    pub refresh_token: String,
    /// Lifetime of the access token in seconds.
    pub expires_in: u32,
}

/// How often one request verifies a password. The result is used only if the account still has the verified hash:
/// another request may have changed the password meanwhile, or only rehashed it.
const PROOFS_MAX: usize = 2;

/// The account use cases.
#[derive(Clone)]
pub struct Accounts {
    store: Arc<dyn Store>,
    passwords: Passwords,
    tokens: Tokens,
    activity: Arc<dyn Activity>,
    locks: AccountLocks,
    logins: LoginLog,
}

impl Accounts {
    /// `locks` are shared with the use cases that start something for an account.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        passwords: Passwords,
        tokens: Tokens,
        activity: Arc<dyn Activity>,
        locks: AccountLocks,
    ) -> Self {
        let logins = LoginLog::new(Clock::default());
        Self { store, passwords, tokens, activity, locks, logins }
    }

    /// Reports logins to `logins`.
    #[must_use]
    pub fn with_login_log(self, logins: LoginLog) -> Self {
        Self { logins, ..self }
    }

    /// Registers an account and signs it in.
    ///
    /// # Errors
    /// `email_taken`, `validation_failed` for a password that is easily guessed, `overloaded`, `database_unavailable`.
    pub async fn register(&self, visitor: &Visitor, new: NewAccount) -> Result<SignedIn, Failure> {
        let user = self.new_user(new, Role::User, visitor.network()).await?;
        self.store.insert_user(&user).await?;
        let signed_in = self.open_login(Account { user, is_creator: false }).await?;
        signed_in.ok_or_else(|| Failure::new(Code::InvalidCredentials))
    }

    async fn new_user(&self, new: NewAccount, role: Role, network: u128) -> Result<User, Failure> {
        let about = [new.email.address.clone(), new.display_name.clone()];
        let password = NewPassword { text: new.password, about, pointer: "/password" };
        let password_hash = self.passwords.hash(password, Purpose::Registration, network).await?;
        Ok(User {
            id: UserId::new(),
            email: new.email.address,
            email_key: Some(new.email.key),
            display_name: new.display_name,
            password_hash,
            role: role.as_str().to_owned(),
            created_at: self.tokens.now(),
            private_follows: true,
            token_version: 0,
        })
    }

    /// Signs in. Takes the same time for an unknown address as for a wrong password.
    ///
    /// # Errors
    /// `invalid_credentials`, `overloaded`, `database_unavailable`.
    pub async fn login(&self, visitor: &Visitor, email: &str, password: String) -> Result<SignedIn, Failure> {
        for _ in 0..PROOFS_MAX {
            let account = self.prove_login(visitor, email, password.clone()).await?;
            if let Some(signed_in) = self.open_login(account).await? {
                self.logins.accepted();
                return Ok(signed_in);
            }
        }
        Err(Failure::new(Code::InvalidCredentials))
    }

    /// The account of an address, if the password is right.
    async fn prove_login(&self, visitor: &Visitor, email: &str, password: String) -> Result<Account, Failure> {
        let user = self.known(email).await?;
        let hash = user.as_ref().map(|user| user.password_hash.clone());
        let verdict = self.passwords.verify(password, hash, visitor.network()).await;
        let verdict = verdict.inspect_err(|failure| self.logins.failed(failure))?;
        let mut user = match (user, &verdict) {
            (Some(user), Verdict::Right | Verdict::Renewed(_)) => user,
            (user, _) => {
                self.logins.refused(visitor, user.map(|user| user.id), email);
                return Err(Failure::new(Code::InvalidCredentials));
            }
        };
        if let Verdict::Renewed(hash) = verdict {
            // If another request rehashed it first, the login is refused for this hash, and the password is verified
            // again.
            self.store.renew_password_hash(user.id, &user.password_hash, &hash).await?;
            user.password_hash = hash;
        }
        self.account(user).await
    }

    /// Exchanges a refresh token for a new pair. A second exchange of one token ends its login, because one of the two
    /// clients has stolen it. For a few seconds it counts as a retry after a lost answer, and gets the same successor
    /// again (or the successor's successor, if that was exchanged too).
    ///
    /// # Errors
    /// `refresh_token_invalid`, `database_unavailable`.
    pub async fn refresh(&self, token: &str) -> Result<SignedIn, Failure> {
        let invalid = || Failure::new(Code::RefreshTokenInvalid);
        let mut text = token.to_owned();
        for successor in 0..=REFRESH_SUCCESSORS_MAX {
            let row = self.store.refresh_token(&tokens::refresh_hash(&text)).await?.ok_or_else(invalid)?;
            let now = self.tokens.steady();
            if row.revoked_at.is_some() || row.expires_at <= now {
                return Err(invalid());
            }
            let exchanged = match row.used_at {
                None if successor > 0 => {
                    self.store.token_version(&row.hash).await?.map(|version| (text.clone(), version))
                }
                None => self.rotate(&text, &row).await?,
                Some(used) if now.millis_since(used) <= REFRESH_GRACE_MS => None,
                Some(_) => {
                    tracing::warn!(user = %row.user_id, "a refresh token was used again: its login is ended");
                    self.end_login(&row).await?;
                    return Err(invalid());
                }
            };
            if let Some((text, version)) = exchanged {
                let user = self.store.user(row.user_id).await?.ok_or_else(invalid)?;
                let account = self.account(user).await?;
                return Ok(self.signed_in(account, text, Login { id: row.family, version }));
            }
            // Another request exchanged it a moment ago.
            text = self.tokens.successor(&text);
        }
        Err(invalid())
    }

    /// Exchanges an unused token. Returns its successor and the account's token version; `None` if another request was
    /// first or the login has ended.
    async fn rotate(&self, text: &str, row: &RefreshToken) -> Result<Option<(String, u32)>, Failure> {
        let (next, now) = (self.tokens.successor(text), self.tokens.steady());
        let new = tokens::refresh_row(&next, row.user_id, row.family, now);
        Ok(self.store.rotate_refresh_token(&row.hash, now, &new).await?.map(|version| (next, version)))
    }

    /// Ends a login with all its tokens at once. An unknown token is no error.
    ///
    /// # Errors
    /// `database_unavailable`.
    pub async fn logout(&self, token: &str) -> Result<(), Failure> {
        match self.store.refresh_token(&tokens::refresh_hash(token)).await? {
            Some(row) => self.end_login(&row).await,
            None => Ok(()),
        }
    }

    async fn end_login(&self, row: &RefreshToken) -> Result<(), Failure> {
        self.store.revoke_refresh_family(row.family, self.tokens.steady()).await?;
        self.tokens.revocations().add(row.user_id, Revocation::Login(row.family));
        self.tokens.revocations().kept().await;
        Ok(())
    }

    /// The caller's own account.
    ///
    /// # Errors
    /// `user_not_found` if the account was deleted, `database_unavailable`.
    pub async fn me(&self, caller: UserId) -> Result<Account, Failure> {
        let user = self.store.user(caller).await?.ok_or_else(|| Failure::new(Code::UserNotFound))?;
        self.account(user).await
    }

    /// Ends every login of the caller, including this one: access tokens and sessions at once.
    ///
    /// # Errors
    /// `user_not_found`, `database_unavailable`.
    pub async fn logout_everywhere(&self, caller: &Caller) -> Result<(), Failure> {
        let version = self.store.revoke_user_tokens(caller.user, self.tokens.steady()).await?;
        self.revoke_below(caller.user, version).await;
        Ok(())
    }

    /// Returns when a start without the database would know it, too.
    async fn revoke_below(&self, user: UserId, version: u32) {
        self.tokens.revocations().add(user, Revocation::Below(version));
        self.tokens.revocations().kept().await;
    }

    /// Changes name and privacy.
    ///
    /// # Errors
    /// `user_not_found`, `database_unavailable`.
    pub async fn change(&self, caller: &Caller, change: AccountChange) -> Result<Account, Failure> {
        let AccountChange { display_name, private_follows } = change;
        let detail =
            changed_fields(&[("display_name", display_name.is_some()), ("private_follows", private_follows.is_some())]);
        let audit = caller.audit(self.tokens.now(), "account_changed", user(caller.user), &detail);
        let change = UserChange { display_name, private_follows };
        self.account(self.store.update_user(caller.user, &change, &audit).await?).await
    }

    /// Changes the password, ends every login at once, and signs the caller in again. Of two concurrent changes based
    /// on the same password, one succeeds.
    ///
    /// # Errors
    /// `wrong_password`, `validation_failed` for a new password that is easily guessed, `user_not_found`, `overloaded`,
    /// `database_unavailable`.
    pub async fn change_password(&self, caller: &Caller, current: String, new: String) -> Result<SignedIn, Failure> {
        for _ in 0..PROOFS_MAX {
            let account = self.prove(caller, current.clone()).await?;
            let hash = self
                .passwords
                .hash(replacing(&account.user, new.clone(), "/new_password"), Purpose::Login, caller.network())
                .await?;
            let audit = caller.audit(self.tokens.now(), "password_changed", user(caller.user), &json!({}));
            let (text, row) = tokens::new_refresh(caller.user, Uuid::now_v7(), self.tokens.steady());
            let version = self.store.set_password(&account.user.password_hash, &hash, &row, &audit).await?;
            if let Some(version) = version {
                self.revoke_below(caller.user, version).await;
                return Ok(self.signed_in(account, text, Login { id: row.family, version }));
            }
        }
        Err(Failure::new(Code::WrongPassword))
    }

    /// Deletes the caller's account: personal data is removed, holds are released, orders stay for the accounting.
    /// Nothing new can start for the account from here on. Continues when the client disconnects.
    ///
    /// # Errors
    /// `wrong_password`, `user_not_found`, `account_has_drops` for a creator with drops that are not over,
    /// `overloaded`, `database_unavailable`.
    pub async fn delete(&self, caller: &Caller, password: String) -> Result<(), Failure> {
        for _ in 0..PROOFS_MAX {
            let account = self.prove(caller, password.clone()).await?;
            let (this, caller) = (self.clone(), caller.clone());
            let deleted = async move { this.delete_proven(&caller, &account).await };
            if spawn_detached(|| Failure::new(Code::Internal), deleted).await? {
                return Ok(());
            }
        }
        Err(Failure::new(Code::WrongPassword))
    }

    /// Deletes an account. Returns whether it still had the verified password.
    async fn delete_proven(&self, caller: &Caller, account: &Account) -> Result<bool, Failure> {
        let alone = self.locks.delete(caller.user).await;
        let creator = CreatorId::from(caller.user);
        // Drops that start far ahead are not in memory.
        if self.activity.sells(creator) || !self.store.open_drops_of(creator, 1).await?.is_empty() {
            return Err(Failure::new(Code::AccountHasDrops));
        }
        let audit = caller.audit(self.tokens.now(), "account_deleted", user(caller.user), &json!({}));
        let version = self.store.delete_user(caller.user, &account.user.password_hash, &audit).await?;
        let Some(version) = version else { return Ok(false) };
        self.revoke_below(caller.user, version).await;
        drop(alone);
        self.activity.release_holds(caller.user, caller.trace).await;
        Ok(true)
    }

    /// The account of an address in any form, if there is one.
    ///
    /// # Errors
    /// `database_unavailable`.
    pub async fn known(&self, email: &str) -> Result<Option<User>, Failure> {
        // No address is that long or has control characters, and Postgres would refuse a zero in the query.
        if email.len() > 4 * EMAIL_CHARS_MAX || email.contains(char::is_control) {
            return Ok(None);
        }
        Ok(self.store.user_by_email(&identity::plain(email), &identity::email_key(email)).await?)
    }

    /// Registers an admin account. For an operator at the command line.
    ///
    /// # Errors
    /// `email_taken`, `overloaded`, `database_unavailable`.
    pub async fn create_admin(&self, new: NewAccount) -> Result<User, Failure> {
        let admin = self.new_user(new, Role::Admin, OPERATOR).await?;
        let audit = operators_audit(self.tokens.now(), "admin_made", user(admin.id), &json!({}));
        self.store.insert_admin(&admin, &audit).await?;
        Ok(admin)
    }

    /// Makes an existing account an admin. It may have been registered by another person than the operator means, so
    /// its password is replaced and its logins end. For an operator at the command line.
    ///
    /// # Errors
    /// `user_not_found` if it was deleted meanwhile, `overloaded`, `database_unavailable`.
    pub async fn promote_to_admin(&self, mut account: User, password: String) -> Result<User, Failure> {
        let password = replacing(&account, password, "/password");
        account.password_hash = self.passwords.hash(password, Purpose::Login, OPERATOR).await?;
        account.role = Role::Admin.as_str().to_owned();
        let detail = json!({"fields": ["role", "password"]});
        let audit = operators_audit(self.tokens.now(), "admin_made", user(account.id), &detail);
        match self.store.promote_to_admin(account.id, &account.password_hash, &audit).await? {
            true => Ok(account),
            false => Err(Failure::new(Code::UserNotFound)),
        }
    }

    /// The audit trail, newest first.
    ///
    /// # Errors
    /// `forbidden`, `database_unavailable`.
    pub async fn audit(
        &self,
        caller: &Caller,
        filter: AuditFilter,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Page<AuditRow>, Failure> {
        caller.must_be_admin()?;
        Ok(page(self.store.audit(filter, after, limit + 1).await?, limit))
    }

    /// The caller's account, if the password is right.
    async fn prove(&self, caller: &Caller, password: String) -> Result<Account, Failure> {
        let account = self.me(caller.user).await?;
        let hash = Some(account.user.password_hash.clone());
        match self.passwords.verify(password, hash, caller.network()).await? {
            Verdict::Wrong => {
                self.logins.refused_again(caller);
                Err(Failure::new(Code::WrongPassword))
            }
            Verdict::Right | Verdict::Renewed(_) => Ok(account),
        }
    }

    /// Opens a login of an account with a verified password, if the account still has that hash.
    async fn open_login(&self, account: Account) -> Result<Option<SignedIn>, Failure> {
        let (text, row) = tokens::new_refresh(account.user.id, Uuid::now_v7(), self.tokens.steady());
        let version = self.store.open_login(&row, &account.user.password_hash).await?;
        Ok(version.map(|version| self.signed_in(account, text, Login { id: row.family, version })))
    }

    fn signed_in(&self, account: Account, refresh_token: String, login: Login) -> SignedIn {
        let access_token = self.tokens.issue(account.user.id, Role::parse(&account.user.role), login);
        SignedIn { account, access_token, refresh_token, expires_in: self.tokens.access_seconds() }
    }

    async fn account(&self, user: User) -> Result<Account, Failure> {
        let is_creator = self.store.creator(CreatorId::from(user.id)).await?.is_some();
        Ok(Account { user, is_creator })
    }
}

fn replacing(user: &User, text: String, pointer: &'static str) -> NewPassword {
    NewPassword { text, about: [user.email.clone(), user.display_name.clone()], pointer }
}

fn user(id: UserId) -> Object {
    Object { kind: "user", id: id.0 }
}
