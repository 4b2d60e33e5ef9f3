//! Who may reserve, and in what order: a policy beside the stock arithmetic.
//!
//! Today everyone may, first come first served, within the limit per buyer. Early access, codes, waiting lists and
//! draws will be further policies; the arithmetic does not change for them.

use crate::domain::{DropStatus, Refusal};

/// What a policy may look at.
#[derive(Clone, Copy, Debug)]
pub struct Applicant {
    /// Where the drop stands.
    pub status: DropStatus,
    /// Units that the buyer holds or owns already.
    pub units: u32,
    /// Units asked for.
    pub quantity: u32,
    /// The drop's limit per buyer; 0 means none.
    pub per_buyer_limit: u32,
}

/// First come first served.
///
/// # Errors
/// The refusal, where the drop is not open or the limit would be exceeded.
pub fn first_come(applicant: &Applicant) -> Result<(), Refusal> {
    match applicant.status {
        DropStatus::Scheduled => return Err(Refusal::NotStarted),
        DropStatus::Ended => return Err(Refusal::Ended),
        DropStatus::Cancelled => return Err(Refusal::DropCancelled),
        DropStatus::Live | DropStatus::SoldOut => {}
    }
    let wanted = u64::from(applicant.units) + u64::from(applicant.quantity);
    if applicant.per_buyer_limit > 0 && wanted > u64::from(applicant.per_buyer_limit) {
        return Err(Refusal::LimitExceeded);
    }
    Ok(())
}
