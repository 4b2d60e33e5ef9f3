//! Pauses between tries, each twice as long as the one before, up to a bound, and each a little longer than that by chance: those who failed
//! together do not try again together.

use std::time::Duration;

/// The part of a pause that chance adds, at most.
const JITTER: f64 = 0.25;

/// See the module.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    next: Duration,
    last: Duration,
}

impl Backoff {
    /// Pauses from `first` to `last`.
    #[must_use]
    pub const fn new(first: Duration, last: Duration) -> Self {
        Self { first, next: first, last }
    }

    /// How long to wait this time.
    pub fn step(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.last);
        pause
    }

    /// Waits.
    pub async fn pause(&mut self) {
        let pause = self.step();
        tokio::time::sleep(pause.mul_f64(1.0 + rand::random::<f64>() * JITTER)).await;
    }

    /// It worked: the next trouble begins with the first pause again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_bound() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(350));
        assert_eq!([(); 4].map(|()| backoff.step()), [ms(100), ms(200), ms(350), ms(350)]);
        backoff.reset();
        assert_eq!(backoff.step(), ms(100));
    }
}
