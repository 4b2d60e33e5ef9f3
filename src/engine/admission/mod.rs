//! Admission: which buyers may reserve, and in what order. Policies beside the stock arithmetic, a file each.
//!
//! - `first_come`: first come first served, within the limit per buyer.
//! - `holds`: bounds on buyers who hold units again and again without paying.
//!
//! Early access, codes, waiting lists and draws will be further policies; the arithmetic does not change for them.

mod first_come;
mod holds;

use super::command::Rejection;
use crate::domain::{DropStatus, Moment, Refusal, Timestamp};
pub use holds::{HoldPolicy, Holder};

/// What a policy knows about a reservation.
#[derive(Clone, Copy, Debug)]
pub struct Applicant {
    pub status: DropStatus,
    /// When the drop starts by itself.
    pub starts_at: Timestamp,
    /// Units that the buyer holds or owns already.
    pub units: u32,
    /// Units of this reservation.
    pub quantity: u32,
    /// The drop's limit per buyer; 0 means none.
    pub per_buyer_limit: u32,
}

/// Why a buyer may not reserve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denial {
    /// Waiting does not help, unless somebody gives units back.
    Refused(Refusal),
    /// Temporary: it passes with time, so it is not remembered and the key stays free.
    NotNow(Rejection),
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Asks every policy. `holder` is only read where holds are bounded.
///
/// # Errors
/// The first denial.
pub fn admit(
    applicant: &Applicant,
    policy: HoldPolicy,
    holder: impl FnOnce() -> Holder,
    now: Moment,
) -> Result<(), Denial> {
    first_come::admit(applicant)?;
    if policy != HoldPolicy::OFF {
        holds::admit(policy, &holder(), now).map_err(Denial::NotNow)?;
    }
    Ok(())
}

/// Whether a buyer whose hold expired may have its units all the same, as the payment has arrived.
#[must_use]
pub fn may_retake(applicant: &Applicant) -> bool {
    first_come::admit(applicant).is_ok()
}
