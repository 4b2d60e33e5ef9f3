//! A fixed set of stories, and some with new seeds.

use super::{JsonReport, SimulateOptions, Variation, play, play_as, run};

const STEPS: u32 = 250;
/// Stories with new seeds in each run.
const FRESH: u64 = 2_000;

#[test]
fn known_stories_keep_every_promise() {
    let report =
        run(&SimulateOptions { seeds: 100, seed: Some(1), steps: STEPS, json: JsonReport::default() }).unwrap();
    assert!(report.broken.is_none(), "{}", report.rendered());
    let happened = [
        "power loss",
        "kill",
        "write error",
        "sync error",
        "kill between sync and reply",
        "clean end",
        "retry",
        "charge",
        "refund",
        "a payment looked up after a restart",
        "a story over SQLite",
        "a story over tables in memory",
        "a batch projected",
        "a projection without an answer",
        "a projection begins again",
        "the database forgets",
        "the database comes or goes",
        "the clock is set ahead",
        "the clock is set back",
        "a hold runs out",
        "a buyer cools down",
        "too many holds",
        "a checkpoint",
        "a drop loaded from its checkpoint",
        "a torn checkpoint",
        "a refund that is asked for again",
        "a consumer's turn",
        "an end before an effect",
        "an end between effect and offset",
        "an end between an offset and the next effect",
        "an event that comes again",
        "an offset is not stored",
        "a target is away",
        "a target's answer is lost",
        "a story with dead letters",
        "a buyer has to act",
        "a hold is extended",
        "an answer of the provider is lost",
        "an answer of the provider comes twice",
        "a capture",
        "a capture that comes too late",
        "the answer to a capture is lost",
    ];
    for what in happened {
        assert!(report.seen.contains_key(what), "no {what:?} in {:?}", report.seen);
    }
}

#[test]
fn fresh_stories_keep_every_promise() {
    let report = run(&SimulateOptions { seeds: FRESH, seed: None, steps: STEPS, json: JsonReport::default() }).unwrap();
    assert!(report.broken.is_none(), "{}", report.rendered());
}

/// The cause was fixed, in the program or in the story.
#[test]
fn a_story_that_once_broke_a_promise_keeps_it() {
    assert!(play_as(3_085_682_710, STEPS, Variation { no_consumer: true, ..Variation::default() }).is_ok());
}

/// Mistakes made on purpose: the simulation would find them.
#[test]
fn an_effect_in_the_wrong_order_is_found() {
    let mistakes = [
        (Variation { offset_first: true, ..Variation::default() }, "never had its effect"),
        (Variation { settle_first: true, ..Variation::default() }, "its money was kept"),
    ];
    for (variation, promise) in mistakes {
        let broken = (1..=100).find_map(|seed| play_as(seed, STEPS, variation).err());
        assert!(broken.as_ref().is_some_and(|(_, what)| what.contains(promise)), "{variation:?}: {broken:?}");
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in 1_000..1_040 {
        assert_eq!(play(seed, STEPS), play(seed, STEPS), "seed {seed}");
    }
}
