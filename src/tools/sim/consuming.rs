//! The consumer that tells another system, a step at a time: at least once, in order within a drop, whenever the server ends.

use super::auditor::Finding;
use super::outside::Fate;
use super::world::World;
use crate::actors::consumers::{Consumer, Step};
use crate::domain::DropRecord;
use rand::Rng;

/// Steps of a story in which the consumer has its turn, too.
const SHARE: f64 = 0.1;
const BETWEEN: &str = "an end between an offset and the next effect";

impl World {
    /// The consumer's turn, perhaps.
    ///
    /// # Errors
    /// A broken promise.
    pub(super) fn maybe_consume(&mut self) -> Finding {
        if self.variation.no_consumer || !self.consumer_dice.random_bool(SHARE) {
            return Ok(());
        }
        let (fate, what) = match self.consumer_dice.random_range(0..20) {
            0..2 => (Fate::AnswerLost, "a target's answer is lost"),
            2..4 => (Fate::Away, "a target is away"),
            4 => (Fate::OffsetFails, "an offset is not stored"),
            5..7 => (Fate::EndsBefore, "an end before an effect"),
            7..9 => (Fate::EndsBetween, "an end between effect and offset"),
            9..11 => (Fate::Taken, BETWEEN),
            _ => (Fate::Taken, "a consumer's turn"),
        };
        let after = self.consumer_dice.random_range(0..2);
        self.outside.decide(fate, after);
        let step = self.consume()?;
        // It may not have come to that batch.
        if let Some(Step::Stopped(reason)) = step {
            return Err(format!("the consumer stops: {reason}"));
        }
        if !self.outside.is_decided() {
            return Ok(());
        }
        let ends = step.is_none() || (what == BETWEEN && step == Some(Step::Worked));
        if ends || !matches!(what, BETWEEN) {
            self.count(what);
        }
        if ends { self.end_now() } else { Ok(()) }
    }

    /// One step of the consumer; `None` where the server ends in it.
    fn consume(&mut self) -> Result<Option<Step>, String> {
        let (life, outside) = (self.life.as_mut().expect("a life"), self.outside.clone());
        let step = self.runtime.block_on(async {
            tokio::select! {
                biased;
                step = life.events.work() => Some(step),
                () = outside.ended() => None,
            }
        });
        for (drop, sequence) in self.outside.arrived() {
            self.note(&[sequence]);
            if self.auditor.hears(drop, sequence)? {
                self.count("an event that comes again");
            }
        }
        Ok(step)
    }

    /// Lets the consumer come to the journal's end, and audits what has arrived.
    pub(super) fn finish_consuming(&mut self, records: &[DropRecord]) -> Finding {
        if self.variation.no_consumer {
            return Ok(());
        }
        self.outside.decide(Fate::Taken, 0);
        loop {
            match self.consume()? {
                Some(Step::Idle) => break,
                Some(Step::Worked | Step::Again) => {}
                step => return Err(format!("the consumer does not come to the journal's end: {step:?}")),
            }
        }
        let dead = self.outside.dead();
        if !dead.is_empty() {
            self.count("a story with dead letters");
        }
        self.auditor.nothing_skipped(records, &dead)
    }
}
