//! Who may reserve, and in what order: a policy beside the stock arithmetic.
//!
//! Today everyone may, first come first served, within the limit per buyer. Early access, codes, waiting lists and
//! draws will be further policies; the arithmetic does not change for them.

use super::command::Rejection;
use crate::domain::{DropStatus, Refusal, Timestamp};

/// What a policy may look at.
#[derive(Clone, Copy, Debug)]
pub struct Applicant {
    /// Where the drop stands.
    pub status: DropStatus,
    /// When it starts by itself.
    pub starts_at: Timestamp,
    /// Units that the buyer holds or owns already.
    pub units: u32,
    /// Units asked for.
    pub quantity: u32,
    /// The drop's limit per buyer; 0 means none.
    pub per_buyer_limit: u32,
}

/// Why somebody may not reserve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denial {
    /// For good: the key keeps it.
    Refused(Refusal),
    /// For now: time alone cures it, so it is not remembered and the key stays free.
    NotNow(Rejection),
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// First come first served.
///
/// # Errors
/// The denial, where the drop is not open or the limit would be exceeded.
pub fn first_come(applicant: &Applicant) -> Result<(), Denial> {
    match applicant.status {
        DropStatus::Scheduled => {
            return Err(Denial::NotNow(Rejection::NotStarted { starts_at: applicant.starts_at }));
        }
        DropStatus::Ended => return Err(Refusal::Ended.into()),
        DropStatus::Cancelled => return Err(Refusal::DropCancelled.into()),
        DropStatus::Live | DropStatus::SoldOut => {}
    }
    let wanted = u64::from(applicant.units) + u64::from(applicant.quantity);
    if applicant.per_buyer_limit > 0 && wanted > u64::from(applicant.per_buyer_limit) {
        return Err(Refusal::LimitExceeded.into());
    }
    Ok(())
}
