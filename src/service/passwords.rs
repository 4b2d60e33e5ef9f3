//! Password hashing: argon2id, off the async threads, and never more of it at once than the machine has memory for.

use super::hash_queue::{HashQueue, Purpose};
use super::{Code, Failure};
use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString},
};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use std::sync::Arc;

/// How much work one hash is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hashing {
    /// 19 MiB, 2 passes, 1 lane: OWASP's first choice for argon2id.
    Owasp,
    /// 64 KiB, 1 pass: for tests and load rehearsals, which would otherwise measure nothing but hashing. Not safe.
    Rehearsal,
}

impl Hashing {
    fn params(self) -> Params {
        let (memory_kib, passes) = match self {
            Self::Owasp => (19_456, 2),
            Self::Rehearsal => (64, 1),
        };
        Params::new(memory_kib, passes, 1, None).expect("constants within argon2's bounds")
    }
}

/// Hashes and verifies passwords. Cheap to clone.
#[derive(Clone)]
pub struct Passwords(Arc<Inner>);

struct Inner {
    argon: Argon2<'static>,
    queue: HashQueue,
    /// Looks like a hash of the same cost, and is no password's: see [`Passwords::verify`].
    decoy: String,
}

impl Passwords {
    /// A hasher that leaves the machine a core.
    #[must_use]
    pub fn new(hashing: Hashing) -> Self {
        Self::with_queue(hashing, HashQueue::for_this_machine())
    }

    /// A hasher whose turns are given by `queue`.
    #[must_use]
    pub fn with_queue(hashing: Hashing, queue: HashQueue) -> Self {
        let params = hashing.params();
        let decoy = format!(
            "$argon2id$v=19$m={},t={},p={}${}${}",
            params.m_cost(),
            params.t_cost(),
            params.p_cost(),
            STANDARD_NO_PAD.encode(rand::random::<[u8; 16]>()),
            STANDARD_NO_PAD.encode(rand::random::<[u8; 32]>()),
        );
        Self(Arc::new(Inner { argon: Argon2::new(Algorithm::Argon2id, Version::V0x13, params), queue, decoy }))
    }

    /// The PHC string of a password. `network`: who asks, see [`super::caller::network`].
    ///
    /// # Errors
    /// `overloaded` when too many wait already.
    pub async fn hash(&self, password: String, purpose: Purpose, network: u128) -> Result<String, Failure> {
        self.run(purpose, network, move |inner| {
            let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>()).map_err(unexpected)?;
            let hash = inner.argon.hash_password(password.as_bytes(), &salt).map_err(unexpected)?;
            Ok(hash.to_string())
        })
        .await
    }

    /// Whether the password is the one behind `hash`. Without a hash (there is no such user) it does the same work
    /// and says no, so that the time of an answer does not tell who has an account.
    ///
    /// # Errors
    /// `overloaded` when too many wait already.
    pub async fn verify(&self, password: String, hash: Option<String>, network: u128) -> Result<bool, Failure> {
        self.run(Purpose::Login, network, move |inner| {
            let text = hash.as_deref().unwrap_or(&inner.decoy);
            let parsed = PasswordHash::new(text).map_err(unexpected)?;
            match inner.argon.verify_password(password.as_bytes(), &parsed) {
                Ok(()) => Ok(hash.is_some()),
                Err(argon2::password_hash::Error::Password) => Ok(false),
                Err(error) => Err(unexpected(error)),
            }
        })
        .await
    }

    /// Runs `work` on a blocking thread. The permit is given back by the thread, not by the caller: a caller that
    /// goes away leaves a hash running, and it counts until it is done.
    async fn run<T: Send + 'static>(
        &self,
        purpose: Purpose,
        network: u128,
        work: impl FnOnce(&Inner) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let permit = self.0.queue.permit(purpose, network).await?;
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&inner);
            drop(permit);
            result
        });
        done.await.unwrap_or_else(|error| Err(unexpected(error)))
    }
}

fn unexpected(error: impl std::fmt::Display) -> Failure {
    tracing::error!(%error, "password hashing failed");
    Failure::new(Code::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_recognised_and_another_is_not() {
        let passwords = Passwords::new(Hashing::Rehearsal);
        let hash = passwords.hash("correct horse".into(), Purpose::Login, 1).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        assert!(passwords.verify("correct horse".into(), Some(hash.clone()), 1).await.unwrap());
        assert!(!passwords.verify("correct horsf".into(), Some(hash), 1).await.unwrap());
    }

    #[tokio::test]
    async fn nobody_has_no_password_and_the_decoy_is_well_formed() {
        for hashing in [Hashing::Rehearsal, Hashing::Owasp] {
            let passwords = Passwords::new(hashing);
            assert!(!passwords.verify("anything".into(), None, 1).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_hash_of_another_cost_still_verifies() {
        let hash = Passwords::new(Hashing::Rehearsal).hash("moved on".into(), Purpose::Login, 1).await.unwrap();
        assert!(Passwords::new(Hashing::Owasp).verify("moved on".into(), Some(hash), 1).await.unwrap());
    }

    #[tokio::test]
    async fn past_the_queue_the_answer_is_overloaded() {
        let queue = HashQueue::new(1, 0);
        let passwords = Passwords::with_queue(Hashing::Rehearsal, queue.clone());
        let running = queue.permit(Purpose::Login, 1).await.unwrap();
        let failure = passwords.hash("x".into(), Purpose::Registration, 2).await.unwrap_err();
        assert_eq!((failure.code, failure.retry_after), (Code::Overloaded, Some(1)));
        drop(running);
        assert!(passwords.hash("x".into(), Purpose::Registration, 2).await.is_ok());
    }
}
