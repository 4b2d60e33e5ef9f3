//! Numbers of orders, for people: short, unique, safe to read out and to type.
//!
//! A number is computed from the order's id and from nothing else, so it is known before the order is decided, needs no
//! table, and is the same wherever the id is. Ids are made so that their numbers differ: each takes the next
//! *position*, which is the millisecond and a count within it. Positions only rise, also from one process to the next
//! (see [`OrderId::continue_after`]).
//!
//! A position is spread over all symbols by a bijection, so that two orders of one minute look different, and followed
//! by a check symbol. Nothing of this is secret, and a number authorizes nothing: it tells when its order was placed, as
//! the id does, and not how many orders there are, because the count of each millisecond begins at random.
//!
//! Ids of earlier versions have no position. Their numbers are longer, because they have to contain all bits that made
//! these ids unique. A mark of 16 bits in an id says which kind it is.

use super::{DropId, OrderId};
use serde::{Serialize, Serializer};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// What numbers are written with. Of characters that look alike (`0 O Q`, `1 I L`, `2 Z`, `5 S`, `6 G`, `8 B`, `U V`) at most
/// one is here; without vowels there are no words. A prime number of symbols, so that the check finds every
/// wrong symbol and every two that were swapped.
pub const SYMBOLS: &[u8; 23] = b"23456789CDFHJKMNPRTVWXY";
const BASE: u128 = SYMBOLS.len() as u128;

/// Symbols in a group; groups are written with a hyphen between them.
const GROUP: usize = 4;
/// Symbols of the longer form.
const LENGTH_MAX: usize = 20;
/// Bytes of the longer form with its hyphens.
const TEXT_MAX: usize = LENGTH_MAX + LENGTH_MAX / GROUP - 1;
/// Bytes of a typed number that are looked at.
const TYPED_MAX: usize = 64;

/// Positions count from 2020-01-01T00:00:00Z, in milliseconds of the Unix epoch, to 2089.
const FIRST_MS: u64 = 1_577_836_800_000;
const MS_BITS: u32 = 41;
/// Bits of the count within a millisecond.
const COUNT_BITS: u32 = 8;
/// The bits of an old id besides its time and its drop's tag: 12 before the variant of the UUID, and 30 after it.
const OLD_BITS: u32 = 42;

/// One of the two forms of numbers.
#[derive(Clone, Copy)]
struct Form {
    /// Bits of the value.
    bits: u32,
    /// Symbols, the check symbol included.
    length: usize,
}

/// Of ids with a position.
const SHORT: Form = Form { bits: MS_BITS + COUNT_BITS, length: 12 };
/// Of ids from before there were numbers.
const LONG: Form = Form { bits: MS_BITS + OLD_BITS, length: LENGTH_MAX };

const _: () = assert!(BASE.pow(SHORT.length as u32 - 1) >= 1 << SHORT.bits);
const _: () = assert!(BASE.pow(LONG.length as u32 - 1) >= 1 << LONG.bits);
// The weights of the check differ and are not 0.
const _: () = assert!(LENGTH_MAX < SYMBOLS.len());

/// The last position that was given.
static LAST: AtomicU64 = AtomicU64::new(0);

/// A number of an order. Written in groups of four symbols: `7K3M-9RTX-42VH`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OrderNumber {
    /// Indexes into [`SYMBOLS`]; 0 beyond the length.
    symbols: [u8; LENGTH_MAX],
    length: u8,
}

/// A number as text.
#[derive(Clone, Copy)]
pub struct NumberText {
    bytes: [u8; TEXT_MAX],
    length: usize,
}

impl NumberText {
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("ASCII")
    }
}

/// Why a typed text is no order's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Mistyped {
    #[error("an order number has {} characters", SHORT.length)]
    Length,
    #[error("no order number has the character {0:?}; its characters are 2 to 9 and CDFHJKMNPRTVWXY")]
    Symbol(char),
    #[error("the last character does not fit the others: one of them was mistyped, or two were swapped")]
    Check,
}

impl OrderNumber {
    fn of(value: u128, form: Form) -> Self {
        let mut symbols = [0; LENGTH_MAX];
        let (mut left, last) = (value, form.length - 1);
        for symbol in symbols[..last].iter_mut().rev() {
            // Divisions of 128 bits are slow, and the shorter form needs none.
            let (rest, digit) = match u64::try_from(left) {
                Ok(left) => (u128::from(left / BASE as u64), left % BASE as u64),
                Err(_) => (left / BASE, (left % BASE) as u64),
            };
            (left, *symbol) = (rest, digit as u8);
        }
        symbols[last] = check(&symbols[..last]);
        Self { symbols, length: form.length as u8 }
    }

    fn form(self) -> Form {
        if usize::from(self.length) == SHORT.length { SHORT } else { LONG }
    }

    /// The value before it was spread; `None` if no id has it.
    fn value(self) -> Option<u128> {
        let form = self.form();
        let digits = &self.symbols[..form.length - 1];
        let value = digits.iter().fold(0, |value, digit| value * BASE + u128::from(*digit));
        (value >> form.bits == 0).then(|| gather(value, form.bits))
    }

    /// The text, without an allocation.
    #[must_use]
    pub fn text(self) -> NumberText {
        let mut text = NumberText { bytes: [b'-'; TEXT_MAX], length: 0 };
        for (at, symbol) in self.symbols[..usize::from(self.length)].iter().enumerate() {
            text.length = at + at / GROUP;
            text.bytes[text.length] = SYMBOLS[usize::from(*symbol)];
        }
        text.length += 1;
        text
    }

    /// The ids that may have this number: those of one millisecond at most. Compare [`OrderId::number`].
    #[must_use]
    pub fn ids(self) -> RangeInclusive<OrderId> {
        let Some(value) = self.value() else { return OrderId(Uuid::max())..=OrderId(Uuid::nil()) };
        let (first, free) = match self.form().length {
            length if length == SHORT.length => {
                let (ms, count) = (value >> COUNT_BITS, value & ((1 << COUNT_BITS) - 1));
                (begin(ms) | count << 68, 68)
            }
            _ => {
                let (ms, rest) = (value >> OLD_BITS, value & ((1 << OLD_BITS) - 1));
                (begin(ms) | rest >> 30 << 64 | VARIANT | (rest & ((1 << 30) - 1)) << 32, 32)
            }
        };
        OrderId(Uuid::from_u128(first))..=OrderId(Uuid::from_u128(first | ((1 << free) - 1)))
    }
}

/// Time and version of an id.
fn begin(ms: u128) -> u128 {
    (ms + u128::from(FIRST_MS)) << 80 | 7 << 76
}

/// The variant's bits of a UUID.
const VARIANT: u128 = 0b10 << 62;

impl fmt::Display for OrderNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl fmt::Debug for OrderNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OrderNumber({self})")
    }
}

impl Serialize for OrderNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text().as_str())
    }
}

impl FromStr for OrderNumber {
    type Err = Mistyped;

    /// Reads a number as people type it: in any case, with spaces and hyphens anywhere or nowhere.
    fn from_str(typed: &str) -> Result<Self, Mistyped> {
        if typed.len() > TYPED_MAX {
            return Err(Mistyped::Length);
        }
        let (mut symbols, mut length) = ([0; LENGTH_MAX], 0);
        for typed in typed.chars().filter(|typed| !matches!(typed, ' ' | '-')) {
            let upper = typed.to_ascii_uppercase();
            let symbol = SYMBOLS.iter().position(|symbol| char::from(*symbol) == upper);
            let symbol = symbol.ok_or(Mistyped::Symbol(typed))?;
            *symbols.get_mut(length).ok_or(Mistyped::Length)? = symbol as u8;
            length += 1;
        }
        if ![SHORT.length, LONG.length].contains(&length) {
            return Err(Mistyped::Length);
        }
        let number = Self { symbols, length: length as u8 };
        let fits = check(&symbols[..length - 1]) == symbols[length - 1] && number.value().is_some();
        if fits { Ok(number) } else { Err(Mistyped::Check) }
    }
}

/// The check symbol: a sum with another weight for each place.
fn check(symbols: &[u8]) -> u8 {
    let sum: usize = (1..).zip(symbols).map(|(weight, symbol)| weight * usize::from(*symbol)).sum();
    (sum % SYMBOLS.len()) as u8
}

/// An odd number, so that multiplying with it can be undone: 2^128 divided by the golden ratio.
const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
const GATHER: u128 = inverse(SPREAD);

/// The inverse of an odd number modulo 2^128, by Newton's method: each step doubles the right bits.
const fn inverse(odd: u128) -> u128 {
    let (mut inverse, mut bits) = (odd, 3);
    while bits < 128 {
        inverse = inverse.wrapping_mul(2u128.wrapping_sub(odd.wrapping_mul(inverse)));
        bits *= 2;
    }
    inverse
}

/// A bijection of the numbers of so many bits.
fn spread(value: u128, bits: u32) -> u128 {
    let times = |value: u128| value.wrapping_mul(SPREAD) & ((1 << bits) - 1);
    fold(times(fold(times(fold(value, bits)), bits)), bits)
}

/// The reverse of [`spread`].
fn gather(value: u128, bits: u32) -> u128 {
    let times = |value: u128| value.wrapping_mul(GATHER) & ((1 << bits) - 1);
    fold(times(fold(times(fold(value, bits)), bits)), bits)
}

/// Its own reverse: the upper half is added to the lower one, bit by bit.
fn fold(value: u128, bits: u32) -> u128 {
    value ^ value >> bits.div_ceil(2)
}

/// The mark of an id with this position.
fn mark(position: u64) -> u128 {
    u128::from(position.wrapping_mul(SPREAD as u64) >> 48)
}

/// The next position at this time: of milliseconds since [`FIRST_MS`]. More than fit into one take those of the next.
fn next_position(last: &AtomicU64, ms: u64, begin: u64) -> u64 {
    let fresh = ms << COUNT_BITS | begin;
    let next = |last: u64| if fresh >> COUNT_BITS > last >> COUNT_BITS { fresh } else { last + 1 };
    let before = last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
    next(before.unwrap_or_else(|last| last))
}

impl OrderId {
    /// A fresh order id whose last 32 bits are the drop's tag. An order is then found in memory without an index from
    /// orders to drops, which would cost tens of bytes an order. RFC 9562 section 5.7 leaves those bits to the
    /// application. The rest is the order's position, which no other id of this process has.
    #[must_use]
    pub fn for_drop(drop: DropId) -> Self {
        let fresh = Uuid::now_v7().as_u128();
        // These bits are random in each id, and not used otherwise.
        let random = fresh as u32;
        let ms = ((fresh >> 80) as u64).saturating_sub(FIRST_MS);
        // Half of a millisecond's counts remain, whatever it begins with.
        let begin = u64::from(random & ((1 << (COUNT_BITS - 1)) - 1));
        Self::at(next_position(&LAST, ms, begin), random >> 14, drop)
    }

    /// `random`: 18 bits.
    fn at(position: u64, random: u32, drop: DropId) -> Self {
        let (ms, count) = (u128::from(position >> COUNT_BITS), u128::from(position & ((1 << COUNT_BITS) - 1)));
        let mark = mark(position);
        let upper = begin(ms) | count << 68 | mark >> 12 << 64;
        let lower = VARIANT | (mark & 0xfff) << 50 | u128::from(random) << 32 | u128::from(drop.tag());
        Self(Uuid::from_u128(upper | lower))
    }

    /// `None` if the id was not made by this version or a later one.
    fn position(self) -> Option<u64> {
        let bits = self.0.as_u128();
        let ms = ((bits >> 80) as u64).checked_sub(FIRST_MS).filter(|ms| ms >> MS_BITS == 0)?;
        let position = ms << COUNT_BITS | (bits >> 68) as u64 & ((1 << COUNT_BITS) - 1);
        let marked = (bits >> 64 & 0xf) << 12 | bits >> 50 & 0xfff;
        (self.0.get_version_num() == 7 && marked == mark(position)).then_some(position)
    }

    /// The order's number.
    #[must_use]
    pub fn number(self) -> OrderNumber {
        if let Some(position) = self.position() {
            return OrderNumber::of(spread(position.into(), SHORT.bits), SHORT);
        }
        let bits = self.0.as_u128();
        let ms = u128::from(((bits >> 80) as u64).wrapping_sub(FIRST_MS)) & ((1 << MS_BITS) - 1);
        let rest = (bits >> 64 & 0xfff) << 30 | bits >> 32 & ((1 << 30) - 1);
        OrderNumber::of(spread(ms << OLD_BITS | rest, LONG.bits), LONG)
    }

    /// Makes no further id with a position up to that of `newest`, the newest order that is known from before a start.
    /// The wall clock alone does not ensure that: it may have been set back meanwhile.
    pub fn continue_after(newest: Self) {
        if let Some(position) = newest.position() {
            LAST.fetch_max(position, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
