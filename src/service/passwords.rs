//! Password hashing with argon2id, off the async threads, and never more at once than memory allows.

use super::hash_queue::{HashQueue, Purpose};
use super::{Code, Failure, FieldError, identity};
use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString},
};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use std::sync::Arc;

/// The cost of one hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hashing {
    /// 19 MiB, 2 passes, 1 lane: OWASP's first choice for argon2id.
    Owasp,
    /// 64 KiB, 1 pass: for tests and load rehearsals, which would otherwise measure only hashing. Not safe.
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

/// A new password, in its normal form.
pub struct NewPassword {
    /// In clear text until it is hashed.
    pub text: String,
    /// The account's address and name; the password must not equal them.
    pub about: [String; 2],
    /// The field in the request, as a JSON pointer.
    pub pointer: &'static str,
}

/// The result of verifying a password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The password does not match.
    Wrong,
    Right,
    /// The password matches, but was hashed as it was typed and not in its normal form. Store this hash instead.
    Renewed(String),
}

/// Hashes and verifies passwords. Cheap to clone.
#[derive(Clone)]
pub struct Passwords(Arc<Inner>);

struct Inner {
    argon: Argon2<'static>,
    queue: HashQueue,
    /// A hash of the same cost without a password: see [`Passwords::verify`].
    decoy: String,
}

impl Passwords {
    /// A hasher that leaves one core of the machine free.
    #[must_use]
    pub fn new(hashing: Hashing) -> Self {
        Self::with_queue(hashing, HashQueue::for_this_machine())
    }

    /// A hasher with its own queue.
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

    /// The PHC string of a password. `network`: the client's, see [`super::caller::network`].
    ///
    /// # Errors
    /// `validation_failed` for one that is easily guessed, `overloaded` if too many requests wait already.
    pub async fn hash(&self, new: NewPassword, purpose: Purpose, network: u128) -> Result<String, Failure> {
        self.run(purpose, network, move |inner| {
            let [email, name] = &new.about;
            identity::hard_to_guess(&new.text, &[email, name]).map_err(|reason| {
                Failure::invalid(vec![FieldError { pointer: new.pointer.to_owned(), detail: reason.into_owned() }])
            })?;
            inner.hash(&new.text)
        })
        .await
    }

    /// Verifies a password against `hash`. Without a hash (the user does not exist) it does the same work and returns
    /// [`Verdict::Wrong`], so that the response time does not reveal who has an account.
    ///
    /// # Errors
    /// `overloaded` if too many requests wait already.
    pub async fn verify(&self, password: String, hash: Option<String>, network: u128) -> Result<Verdict, Failure> {
        self.run(Purpose::Login, network, move |inner| {
            let known = hash.as_deref().unwrap_or(&inner.decoy);
            let form = identity::password_form(&password);
            let right = inner.is_behind(known, &form)?;
            // Before there was a normal form, passwords were hashed as they were typed.
            let as_typed = !right && form != password && inner.is_behind(known, &password)?;
            match (hash.is_some(), right, as_typed) {
                (true, true, _) => Ok(Verdict::Right),
                (true, _, true) => Ok(Verdict::Renewed(inner.hash(&form)?)),
                _ => Ok(Verdict::Wrong),
            }
        })
        .await
    }

    /// Runs `work` on a blocking thread. The thread returns the permit, not the caller: a hash whose caller was
    /// cancelled still counts until it is done.
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

impl Inner {
    fn hash(&self, password: &str) -> Result<String, Failure> {
        let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>()).map_err(unexpected)?;
        Ok(self.argon.hash_password(password.as_bytes(), &salt).map_err(unexpected)?.to_string())
    }

    fn is_behind(&self, hash: &str, password: &str) -> Result<bool, Failure> {
        let hash = PasswordHash::new(hash).map_err(unexpected)?;
        match self.argon.verify_password(password.as_bytes(), &hash) {
            Ok(()) => Ok(true),
            Err(argon2::password_hash::Error::Password) => Ok(false),
            Err(error) => Err(unexpected(error)),
        }
    }
}

fn unexpected(error: impl std::fmt::Display) -> Failure {
    tracing::error!(%error, "password hashing failed");
    Failure::new(Code::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(text: &str) -> NewPassword {
        let about = ["ada@example.com", "Ada"].map(str::to_owned);
        NewPassword { text: text.to_owned(), about, pointer: "/password" }
    }

    #[tokio::test]
    async fn a_password_is_recognised_and_another_is_not() {
        let passwords = Passwords::new(Hashing::Rehearsal);
        let hash = passwords.hash(new("correct horse"), Purpose::Login, 1).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        let verdict = async |text: &str| passwords.verify(text.into(), Some(hash.clone()), 1).await.unwrap();
        assert_eq!(verdict("correct horse").await, Verdict::Right);
        assert_eq!(verdict("correct\u{a0}horse").await, Verdict::Right, "another space");
        assert_eq!(verdict("correct horsf").await, Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_password_that_was_hashed_as_it_was_typed_is_recognised_and_moves_to_its_normal_form() {
        let passwords = Passwords::new(Hashing::Rehearsal);
        let typed = "cafe\u{301} cafe\u{301}";
        let old = passwords.0.hash(typed).unwrap();
        let verdict = async |text: &str, hash: &str| passwords.verify(text.into(), Some(hash.into()), 1).await.unwrap();
        assert_eq!(verdict("cafe\u{301}", &old).await, Verdict::Wrong);
        let Verdict::Renewed(renewed) = verdict(typed, &old).await else { panic!("it is right") };
        assert_eq!(verdict(typed, &renewed).await, Verdict::Right);
        assert_eq!(verdict("caf\u{e9} caf\u{e9}", &renewed).await, Verdict::Right);
        assert_eq!(passwords.verify(typed.into(), None, 1).await.unwrap(), Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_password_that_is_easily_guessed_names_its_field() {
        let passwords = Passwords::new(Hashing::Rehearsal);
        for easy in ["12345678", "ada@example.com"] {
            let failure = passwords.hash(new(easy), Purpose::Login, 1).await.unwrap_err();
            assert_eq!((failure.code, failure.fields[0].pointer.as_str()), (Code::ValidationFailed, "/password"));
        }
    }

    #[tokio::test]
    async fn nobody_has_no_password_and_the_decoy_is_well_formed() {
        for hashing in [Hashing::Rehearsal, Hashing::Owasp] {
            let passwords = Passwords::new(hashing);
            assert_eq!(passwords.verify("anything".into(), None, 1).await.unwrap(), Verdict::Wrong);
        }
    }

    #[tokio::test]
    async fn a_hash_of_another_cost_still_verifies() {
        let hash = Passwords::new(Hashing::Rehearsal).0.hash("moved on").unwrap();
        let verdict = Passwords::new(Hashing::Owasp).verify("moved on".into(), Some(hash), 1).await.unwrap();
        assert_eq!(verdict, Verdict::Right);
    }

    #[tokio::test]
    async fn past_the_queue_the_answer_is_overloaded() {
        let queue = HashQueue::new(1, 0);
        let passwords = Passwords::with_queue(Hashing::Rehearsal, queue.clone());
        let running = queue.permit(Purpose::Login, 1).await.unwrap();
        let failure = passwords.hash(new("correct horse"), Purpose::Registration, 2).await.unwrap_err();
        assert_eq!((failure.code, failure.retry_after), (Code::Overloaded, Some(1)));
        drop(running);
        assert!(passwords.hash(new("correct horse"), Purpose::Registration, 2).await.is_ok());
    }
}
