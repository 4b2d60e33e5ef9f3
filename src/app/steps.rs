//! Where the time of a start goes.

use std::fmt;
use std::time::Instant;

/// The steps of a start, with their durations.
pub(super) struct Steps {
    began: Instant,
    last: Instant,
    done: Vec<(&'static str, u128)>,
}

impl Steps {
    /// The start begins now.
    pub fn begin() -> Self {
        let began = Instant::now();
        Self { began, last: began, done: Vec::new() }
    }

    /// A step has ended.
    pub fn done(&mut self, step: &'static str) {
        let now = Instant::now();
        self.done.push((step, (now - self.last).as_millis()));
        self.last = now;
    }

    /// Milliseconds since the beginning.
    pub fn total_ms(&self) -> u128 {
        self.began.elapsed().as_millis()
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (step, ms)) in self.done.iter().enumerate() {
            write!(f, "{}{step} {ms} ms", if at > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_its_own_time() {
        let mut steps = Steps::begin();
        steps.done("database");
        steps.done("journal");
        let said = steps.to_string();
        let parts: Vec<&str> = said.split(", ").collect();
        assert!(parts.len() == 2 && parts[0].starts_with("database ") && parts[1].ends_with(" ms"), "{said}");
        assert!(steps.total_ms() >= steps.done.iter().map(|(_, ms)| ms).sum());
    }
}
