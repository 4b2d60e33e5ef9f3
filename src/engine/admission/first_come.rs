//! First come first served, within the limit per buyer.

use super::{Applicant, Denial};
use crate::domain::{DropStatus, Refusal};
use crate::engine::command::Rejection;

/// # Errors
/// The denial, if the drop is not open or the limit would be exceeded.
pub fn admit(applicant: &Applicant) -> Result<(), Denial> {
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
