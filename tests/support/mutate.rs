//! Nearly valid input, which gets further into a parser than noise. A failure prints its seed, and the seed replays it.

use rand::{Rng, SeedableRng, rngs::StdRng};

/// Bytes and texts that are known to break parsers.
const HARD: [&[u8]; 16] = [
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    "\u{202e}\u{0}\u{10ffff}".as_bytes(),
    b"\"",
    b"\\ud800",
    b"{",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"null",
    b",",
];

/// The seeds of a run: the first `fixed` numbers, and `LIVEDROP_FUZZ_RUNS` random ones (by default a tenth of `fixed`).
/// `LIVEDROP_FUZZ_SEED` replaces them all.
pub fn seeds(fixed: u64) -> impl Iterator<Item = u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let fresh = number("LIVEDROP_FUZZ_RUNS").unwrap_or(fixed / 10);
    let start: u64 = rand::rng().random();
    let again = number("LIVEDROP_FUZZ_SEED");
    let fresh = (0..fresh).map(move |n| start.wrapping_add(n));
    again.into_iter().chain((0..fixed).chain(fresh).filter(move |_| again.is_none()))
}

/// A few changes to one entry of the corpus.
pub fn mutated(seed: u64, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut bytes = corpus[rng.random_range(0..corpus.len())].clone();
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=bytes.len());
        let end = rng.random_range(at..=bytes.len().min(at + 32));
        match rng.random_range(0..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = rng.random(),
            2 => bytes.truncate(at),
            3 => _ = bytes.drain(at..end),
            4 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            5 => {
                let other = &corpus[rng.random_range(0..corpus.len())];
                let from = rng.random_range(0..=other.len());
                bytes.splice(at..end, other[from..].iter().copied());
            }
            _ => _ = bytes.splice(at..end, HARD[rng.random_range(0..HARD.len())].iter().copied()),
        }
    }
    bytes
}
