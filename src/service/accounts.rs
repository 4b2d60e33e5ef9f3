//! Accounts: register, log in, stay logged in, log out.

use super::caller::{changed_fields, operators_audit};
use super::{
    Caller, Code, Failure, Object, Page, Visitor,
    clock::Clock,
    creators::page,
    hash_queue::Purpose,
    identity::{self, Email},
    login_log::LoginLog,
    passwords::{NewPassword, Passwords, Verdict},
    tokens::{self, REFRESH_GRACE_MS, Role, Tokens},
};
use crate::domain::limits::EMAIL_CHARS_MAX;
use crate::domain::{CreatorId, Timestamp, UserId};
use crate::storage::{AuditFilter, AuditRow, RefreshToken, Store, User};
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

#[cfg(test)]
mod tests;

/// The network of whoever sits at the command line: a process of its own, so it competes with nobody.
const OPERATOR: u128 = 0;

/// An account to make, already validated field by field.
pub struct NewAccount {
    /// Where they are reached.
    pub email: Email,
    /// In its normal form, and in the clear for as long as it takes to hash it.
    pub password: String,
    /// What others see.
    pub display_name: String,
}

/// An account, and whether it has a creator's profile.
#[derive(Clone, Debug)]
pub struct Account {
    /// The row.
    pub user: User,
    /// Whether there is a profile.
    pub is_creator: bool,
}

/// What whoever signs in takes home.
#[derive(Clone)]
pub struct SignedIn {
    /// Who it is.
    pub account: Account,
    /// For the next `expires_in` seconds.
    pub access_token: String,
    /// Good for one exchange.
    pub refresh_token: String,
    /// Seconds.
    pub expires_in: u32,
}

/// What to change in an account; what is absent stays. Already validated field by field.
#[derive(Clone, Debug, Default)]
pub struct AccountChange {
    /// What others see.
    pub display_name: Option<String>,
    /// Whether only the account itself may see whom it follows.
    pub private_follows: Option<bool>,
}

/// Says whether a creator has drops that are not settled.
pub type HasOpenDrops = Arc<dyn Fn(CreatorId) -> bool + Send + Sync>;

/// The account use cases.
#[derive(Clone)]
pub struct Accounts {
    store: Arc<dyn Store>,
    passwords: Passwords,
    tokens: Tokens,
    has_open_drops: HasOpenDrops,
    logins: LoginLog,
}

impl Accounts {
    /// Over a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, passwords: Passwords, tokens: Tokens, has_open_drops: HasOpenDrops) -> Self {
        let logins = LoginLog::new(Clock::default());
        Self { store, passwords, tokens, has_open_drops, logins }
    }

    /// The same, whose logins `logins` hears of.
    #[must_use]
    pub fn with_login_log(self, logins: LoginLog) -> Self {
        Self { logins, ..self }
    }

    /// Makes an account and signs it in.
    ///
    /// # Errors
    /// `email_taken`, `validation_failed` for a password that is easily guessed, `overloaded`, `database_unavailable`.
    pub async fn register(&self, visitor: &Visitor, new: NewAccount) -> Result<SignedIn, Failure> {
        let user = self.new_user(new, Role::User, visitor.network()).await?;
        self.store.insert_user(&user).await?;
        self.open_family(Account { user, is_creator: false }).await
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
        })
    }

    /// Signs in. Takes as long for an unknown address as for a wrong password.
    ///
    /// # Errors
    /// `invalid_credentials`, `overloaded`, `database_unavailable`.
    pub async fn login(&self, visitor: &Visitor, email: &str, password: String) -> Result<SignedIn, Failure> {
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
        self.logins.accepted();
        if let Verdict::Renewed(hash) = verdict {
            // Where it was changed meanwhile, the new password has its own hash.
            self.store.renew_password_hash(user.id, &user.password_hash, &hash).await?;
            user.password_hash = hash;
        }
        self.open_family(self.account(user).await?).await
    }

    /// Exchanges a refresh token for a new pair. A token that was exchanged before revokes its whole family, because
    /// either the first or the second to bring it has stolen it; for a few seconds it is taken for a retry of a
    /// client that never got its answer, and gets another token of the family.
    ///
    /// # Errors
    /// `refresh_token_invalid`, `database_unavailable`.
    pub async fn refresh(&self, token: &str) -> Result<SignedIn, Failure> {
        let invalid = || Failure::new(Code::RefreshTokenInvalid);
        let now = self.tokens.steady();
        let hash = tokens::refresh_hash(token);
        let old = self.store.refresh_token(&hash).await?.ok_or_else(invalid)?;
        if old.revoked_at.is_some() || old.expires_at <= now {
            return Err(invalid());
        }
        let (text, next) = tokens::new_refresh(old.user_id, old.family, now);
        let rotated = old.used_at.is_none() && self.store.rotate_refresh_token(&hash, now, &next).await?;
        if !rotated {
            self.accept_reuse(&old.hash, &next, now).await?;
        }
        let user = self.store.user(old.user_id).await?.ok_or_else(invalid)?;
        let account = self.account(user).await?;
        Ok(self.signed_in(account, text))
    }

    /// Ends a login: every token of the family. An unknown token is no error, it is as good as ended.
    ///
    /// # Errors
    /// `database_unavailable`.
    pub async fn logout(&self, token: &str) -> Result<(), Failure> {
        if let Some(row) = self.store.refresh_token(&tokens::refresh_hash(token)).await? {
            self.store.revoke_refresh_family(row.family, self.tokens.now()).await?;
        }
        Ok(())
    }

    /// The caller's own account.
    ///
    /// # Errors
    /// `user_not_found` where the account is gone, `database_unavailable`.
    pub async fn me(&self, caller: UserId) -> Result<Account, Failure> {
        let user = self.store.user(caller).await?.ok_or_else(|| Failure::new(Code::UserNotFound))?;
        self.account(user).await
    }

    /// Ends every login of the caller. Access tokens that are out there last their quarter of an hour.
    ///
    /// # Errors
    /// `database_unavailable`.
    pub async fn logout_everywhere(&self, caller: &Caller) -> Result<(), Failure> {
        Ok(self.store.revoke_user_tokens(caller.user, self.tokens.now()).await?)
    }

    /// Changes name and privacy.
    ///
    /// # Errors
    /// `user_not_found`, `database_unavailable`.
    pub async fn change(&self, caller: &Caller, change: AccountChange) -> Result<Account, Failure> {
        let mut account = self.me(caller.user).await?;
        let detail = changed_fields(&[
            ("display_name", change.display_name.is_some()),
            ("private_follows", change.private_follows.is_some()),
        ]);
        account.user.display_name = change.display_name.unwrap_or(account.user.display_name);
        account.user.private_follows = change.private_follows.unwrap_or(account.user.private_follows);
        let audit = caller.audit(self.tokens.now(), "account_changed", user(caller.user), &detail);
        self.store.update_user(&account.user, &audit).await?;
        Ok(account)
    }

    /// Changes the password, ends every login, and signs the caller in anew.
    ///
    /// # Errors
    /// `wrong_password`, `validation_failed` for a new one that is easily guessed, `user_not_found`, `overloaded`,
    /// `database_unavailable`.
    pub async fn change_password(&self, caller: &Caller, current: String, new: String) -> Result<SignedIn, Failure> {
        let account = self.prove(caller, current).await?;
        let hash = self
            .passwords
            .hash(replacing(&account.user, new, "/new_password"), Purpose::Login, caller.network())
            .await?;
        let audit = caller.audit(self.tokens.now(), "password_changed", user(caller.user), &json!({}));
        self.store.set_password(caller.user, &hash, &audit).await?;
        self.open_family(account).await
    }

    /// Deletes the caller's account: nothing personal is left, orders stay for the books.
    ///
    /// # Errors
    /// `wrong_password`, `user_not_found`, `account_has_drops` for a creator whose drops are not over,
    /// `overloaded`, `database_unavailable`.
    pub async fn delete(&self, caller: &Caller, password: String) -> Result<(), Failure> {
        self.prove(caller, password).await?;
        let creator = CreatorId::from(caller.user);
        // Those that start far ahead are out of memory.
        if (self.has_open_drops)(creator) || !self.store.open_drops_of(creator, 1).await?.is_empty() {
            return Err(Failure::new(Code::AccountHasDrops));
        }
        let audit = caller.audit(self.tokens.now(), "account_deleted", user(caller.user), &json!({}));
        Ok(self.store.delete_user(caller.user, &audit).await?)
    }

    /// The account with that address in any form, if there is one.
    ///
    /// # Errors
    /// `database_unavailable`.
    pub async fn known(&self, email: &str) -> Result<Option<User>, Failure> {
        // No address is that long or has control characters, and Postgres would not take a zero in its question.
        if email.len() > 4 * EMAIL_CHARS_MAX || email.contains(char::is_control) {
            return Ok(None);
        }
        Ok(self.store.user_by_email(&identity::plain(email), &identity::email_key(email)).await?)
    }

    /// Makes a new account that is an admin. For an operator at the command line.
    ///
    /// # Errors
    /// `email_taken`, `overloaded`, `database_unavailable`.
    pub async fn create_admin(&self, new: NewAccount) -> Result<User, Failure> {
        let admin = self.new_user(new, Role::Admin, OPERATOR).await?;
        let audit = operators_audit(self.tokens.now(), "admin_made", user(admin.id), &json!({}));
        self.store.insert_admin(&admin, &audit).await?;
        Ok(admin)
    }

    /// Makes an account that is there an admin. Whoever registered its address may not be whoever the operator means:
    /// their password and their logins end with it. For an operator at the command line.
    ///
    /// # Errors
    /// `user_not_found` where it was deleted meanwhile, `overloaded`, `database_unavailable`.
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

    /// The caller's account, if this is its password.
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

    /// Keeps `next` if the used token behind `hash` is within its grace, and revokes its family if it is not.
    async fn accept_reuse(&self, hash: &[u8; 32], next: &RefreshToken, now: Timestamp) -> Result<(), Failure> {
        // Read again: the first exchange may have happened after our first look.
        let old = self.store.refresh_token(hash).await?;
        let within_grace = old.as_ref().is_some_and(|old| {
            old.revoked_at.is_none() && old.used_at.is_some_and(|used| now.millis_since(used) <= REFRESH_GRACE_MS)
        });
        if within_grace {
            self.store.insert_refresh_token(next).await?;
            // A revocation that came in between did not see the token that we have just added.
            let revoked = self.store.refresh_token(hash).await?.is_none_or(|old| old.revoked_at.is_some());
            if !revoked {
                return Ok(());
            }
        } else {
            tracing::warn!(user = %next.user_id, "a refresh token was used again: its login is revoked");
        }
        self.store.revoke_refresh_family(next.family, now).await?;
        Err(Failure::new(Code::RefreshTokenInvalid))
    }

    async fn open_family(&self, account: Account) -> Result<SignedIn, Failure> {
        let (text, row) = tokens::new_refresh(account.user.id, Uuid::now_v7(), self.tokens.steady());
        self.store.insert_refresh_token(&row).await?;
        Ok(self.signed_in(account, text))
    }

    fn signed_in(&self, account: Account, refresh_token: String) -> SignedIn {
        let access_token = self.tokens.issue(account.user.id, Role::parse(&account.user.role));
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
