//! Bounds on buyers who hold units again and again without paying.

use crate::domain::limits::{
    COOL_DOWN_MS_DEFAULT, COOL_DOWN_MS_MAX, HOLDS_PER_ADDRESS_DEFAULT, HOLDS_PER_BUYER_DEFAULT,
};
use crate::domain::{Moment, Timestamp};
use crate::engine::command::Rejection;

/// Bounds on buyers who hold units again and again without paying. The operator sets them for all drops; they are not
/// recorded, and a replay does not check them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HoldPolicy {
    /// Unpaid holds that one buyer may have in a drop at a time; 0: any number.
    pub per_buyer: u16,
    /// Unpaid holds that one network may have in a drop at a time; 0: any number.
    pub per_network: u32,
    /// How long a buyer waits for the next hold after one expired unpaid, in milliseconds, doubled each further time;
    /// 0: not at all.
    pub cool_down_ms: u32,
}

impl HoldPolicy {
    pub const OFF: Self = Self { per_buyer: 0, per_network: 0, cool_down_ms: 0 };
    /// The defaults: bounds that honest buyers do not reach, even some of them behind one address.
    pub const USUAL: Self = Self {
        per_buyer: HOLDS_PER_BUYER_DEFAULT,
        per_network: HOLDS_PER_ADDRESS_DEFAULT,
        cool_down_ms: COOL_DOWN_MS_DEFAULT,
    };

    /// How long a buyer waits after this many unpaid holds in a row, in milliseconds.
    #[must_use]
    pub fn wait_ms(self, strikes: u8) -> u32 {
        match strikes {
            0 => 0,
            // More doublings would exceed the longest wait for any first wait.
            _ => self.cool_down_ms.saturating_mul(1 << (strikes - 1).min(22)).min(COOL_DOWN_MS_MAX),
        }
    }
}

/// What the hold policy knows about a buyer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Holder {
    /// Unpaid holds that the buyer has.
    pub holds: u16,
    /// Unpaid holds from the buyer's network, of those made since the process started.
    pub from_network: u32,
    /// How many holds of the buyer in a row expired unpaid, and when the last one did, by the steady clock.
    pub strikes: Option<(u8, Timestamp)>,
}

/// Checks a buyer against the hold policy. A rejection passes with time, or when the buyer pays: no key keeps it.
///
/// # Errors
/// The bound that is reached.
pub fn admit(policy: HoldPolicy, holder: &Holder, now: Moment) -> Result<(), Rejection> {
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
        // The wall clock was set back by a minute since then.
        let now = Moment { wall: at(1_000_000), steady: at(21_000) };
        let told = admit(HoldPolicy::USUAL, &holder, now);
        assert_eq!(told, Err(Rejection::CoolingDown { until: at(1_040_000), left_ms: 40_000 }));
        assert_eq!(admit(HoldPolicy::USUAL, &holder, at(61_000).into()), Ok(()));
        assert_eq!(admit(HoldPolicy::OFF, &holder, now), Ok(()));
    }

    #[test]
    fn holds_are_bounded_for_a_buyer_and_for_a_network() {
        let may = |policy, holds, from_network| {
            admit(policy, &Holder { holds, from_network, strikes: None }, Timestamp::EPOCH.into())
        };
        let policy = HoldPolicy { per_buyer: 2, per_network: 3, cool_down_ms: 0 };
        assert_eq!(may(policy, 1, 2), Ok(()));
        assert_eq!(may(policy, 2, 2), Err(Rejection::TooManyHolds));
        assert_eq!(may(policy, 1, 3), Err(Rejection::TooManyHoldsFromNetwork));
        assert_eq!(may(HoldPolicy::OFF, u16::MAX, u32::MAX), Ok(()));
    }
}
