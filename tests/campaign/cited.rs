//! Rows whose tests run elsewhere: listed with their counts, so that the table is complete. Each citation is looked up
//! in the source, so that it cannot outlive its test.

use crate::{Outcome, Row};
use std::{fs, path::Path};

/// A fault, its count, the test's file and name, and a line that proves the count.
struct Citation {
    fault: &'static str,
    runs: &'static str,
    file: &'static str,
    test: &'static str,
    proof: &'static str,
}

const CITATIONS: [Citation; 9] = [
    Citation {
        fault: "truncated or zero-filled at every byte of the last 3 frames (in process)",
        runs: "all",
        file: "src/journal/tests/damage.rs",
        test: "truncated_and_zero_filled_at_every_byte_of_the_last_three_frames",
        proof: "for ",
    },
    Citation {
        fault: "512-byte subset tears of a write (in process)",
        runs: "10,000 seeds",
        file: "src/journal/tests/crashes.rs",
        test: "a_torn_write_loses_nothing_that_was_acknowledged",
        proof: "const SEEDS: u64 = 10_000;",
    },
    Citation {
        fault: "every bit flipped, after a crash (in process)",
        runs: "all bits",
        file: "src/journal/tests/damage.rs",
        test: "every_flipped_bit_after_a_crash",
        proof: "for bit in 0..image.bytes(&name).unwrap().len() * 8",
    },
    Citation {
        fault: "every bit flipped, after a clean end (in process)",
        runs: "all bits",
        file: "src/journal/tests/damage.rs",
        test: "every_flipped_bit_after_a_clean_end",
        proof: "for bit in 0..image.bytes(&name).unwrap().len() * 8",
    },
    Citation {
        fault: "power loss, any unsynced subset lost (in process)",
        runs: "10,000 seeds",
        file: "src/journal/tests/crashes.rs",
        test: "a_power_loss_at_any_moment_loses_nothing_that_was_durable",
        proof: "for seed in 0..SEEDS {",
    },
    Citation {
        fault: "the n-th operation fails, once, for good, torn (in process)",
        runs: "all n of a run of more than 500",
        file: "src/journal/tests/faults.rs",
        test: "the_nth_operation_fails",
        proof: "assert!(operations > 500",
    },
    Citation {
        fault: "stories of crashes, lost syncs, retries, an absent and forgetful database, clock jumps of an hour (simulated)",
        runs: "100 seeds",
        file: "src/tools/sim/tests.rs",
        test: "known_stories_keep_every_promise",
        proof: "seeds: 100,",
    },
    Citation {
        fault: "malformed records, frames and journal directories (fuzzed)",
        runs: "22,000 and 2,200 inputs",
        file: "tests/fuzz/main.rs",
        test: "what_a_disk_may_hold",
        proof: "mutate::seeds(20_000)",
    },
    Citation {
        fault: "malformed HTTP bodies (fuzzed)",
        runs: "660 inputs",
        file: "tests/it/fuzz.rs",
        test: "bodies",
        proof: "seeds(600)",
    },
];

pub fn rows() -> Vec<Row> {
    CITATIONS.iter().map(|citation| Row::new(citation.fault, async |_| look_up(citation))).collect()
}

fn look_up(citation: &Citation) -> Outcome {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(citation.file);
    let text = fs::read_to_string(&path).expect("the cited file");
    let Citation { test, proof, file, .. } = citation;
    assert!(text.contains(&format!("fn {test}()")), "{file} has no test {test}");
    assert!(text.contains(proof), "{file} does not say {proof}");
    Outcome::of(citation.runs, format!("not run here: `cargo test {test}`"))
}
