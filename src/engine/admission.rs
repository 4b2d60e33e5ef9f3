//! Who may reserve, and in what order: a policy beside the stock arithmetic.
//!
//! Today everyone may, first come first served, within the limit per buyer, and as long as they do not hoard: hold units without paying. Early access,
//! codes, waiting lists and draws will be further policies; the arithmetic does not change for them.

use super::command::Rejection;
use crate::domain::limits::{
    COOL_DOWN_MS_DEFAULT, COOL_DOWN_MS_MAX, HOLDS_PER_ADDRESS_DEFAULT, HOLDS_PER_BUYER_DEFAULT,
};
use crate::domain::{DropStatus, Moment, Refusal, Timestamp};

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

/// What keeps somebody from holding units of a drop again and again without ever paying. The operator's, not the drop's: it is not recorded, and a replay
/// does not ask for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HoldPolicy {
    /// Unpaid holds that one buyer may have in a drop at a time; 0: any number.
    pub per_buyer: u16,
    /// The same from one network; 0: any number.
    pub per_network: u32,
    /// How long a buyer whose hold ran out unpaid waits for the next, in milliseconds, twice as long each further time; 0: not at all.
    pub cool_down_ms: u32,
}

impl HoldPolicy {
    /// No bounds.
    pub const OFF: Self = Self { per_buyer: 0, per_network: 0, cool_down_ms: 0 };
    /// For people, and for some of them behind one address.
    pub const USUAL: Self = Self {
        per_buyer: HOLDS_PER_BUYER_DEFAULT,
        per_network: HOLDS_PER_ADDRESS_DEFAULT,
        cool_down_ms: COOL_DOWN_MS_DEFAULT,
    };

    /// How long a buyer waits whose holds ran out unpaid so many times in a row, in milliseconds.
    #[must_use]
    pub fn wait_ms(self, strikes: u8) -> u32 {
        match strikes {
            0 => 0,
            // More than this many would be beyond the longest wait whatever the first is.
            _ => self.cool_down_ms.saturating_mul(1 << (strikes - 1).min(22)).min(COOL_DOWN_MS_MAX),
        }
    }
}

/// What a policy may know of somebody who wants to hold more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Holder {
    /// Unpaid holds that the buyer has.
    pub holds: u16,
    /// Unpaid holds from the buyer's network, as far as they were made since the process started.
    pub from_network: u32,
    /// How many times in a row a hold of the buyer ran out unpaid, and when it last did, by the steady clock.
    pub strikes: Option<(u8, Timestamp)>,
}

/// Nobody hoards. What is against it is over with time, or when the buyer pays: no key keeps it.
///
/// # Errors
/// Why not now.
pub fn may_hold(policy: HoldPolicy, holder: &Holder, now: Moment) -> Result<(), Rejection> {
    if let Some((strikes, at)) = holder.strikes {
        let left_ms = at.plus_millis(policy.wait_ms(strikes).into()).millis_since(now.steady);
        if left_ms > 0 {
            let left_ms = u32::try_from(left_ms).unwrap_or(COOL_DOWN_MS_MAX);
            return Err(Rejection::CoolingDown { until: now.wall.plus_millis(left_ms.into()), left_ms });
        }
    }
    if policy.per_buyer > 0 && holder.holds >= policy.per_buyer {
        return Err(Rejection::TooManyHolds);
    }
    if policy.per_network > 0 && holder.from_network >= policy.per_network {
        return Err(Rejection::TooManyHoldsFromNetwork);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_a_buyer_waits_twice_as_long_up_to_an_hour() {
        let waits = |strikes| HoldPolicy::USUAL.wait_ms(strikes);
        assert_eq!(
            [0, 1, 2, 3, 7, 8, 9, u8::MAX].map(waits),
            [0, 30_000, 60_000, 120_000, 1_920_000, 3_600_000, 3_600_000, 3_600_000]
        );
        assert_eq!(HoldPolicy::OFF.wait_ms(u8::MAX), 0);
    }

    #[test]
    fn who_waits_is_told_until_when_by_the_wall_clock() {
        let at = Timestamp::from_millis;
        let holder = Holder { strikes: Some((2, at(1_000))), ..Holder::default() };
        // The wall clock was set back by a minute since.
        let now = Moment { wall: at(1_000_000), steady: at(21_000) };
        let told = may_hold(HoldPolicy::USUAL, &holder, now);
        assert_eq!(told, Err(Rejection::CoolingDown { until: at(1_040_000), left_ms: 40_000 }));
        assert_eq!(may_hold(HoldPolicy::USUAL, &holder, at(61_000).into()), Ok(()));
        assert_eq!(may_hold(HoldPolicy::OFF, &holder, now), Ok(()));
    }

    #[test]
    fn holds_are_bounded_for_a_buyer_and_for_a_network() {
        let may = |policy, holds, from_network| {
            may_hold(policy, &Holder { holds, from_network, strikes: None }, Timestamp::EPOCH.into())
        };
        let policy = HoldPolicy { per_buyer: 2, per_network: 3, cool_down_ms: 0 };
        assert_eq!(may(policy, 1, 2), Ok(()));
        assert_eq!(may(policy, 2, 2), Err(Rejection::TooManyHolds));
        assert_eq!(may(policy, 1, 3), Err(Rejection::TooManyHoldsFromNetwork));
        assert_eq!(may(HoldPolicy::OFF, u16::MAX, u32::MAX), Ok(()));
    }
}
