//! Pauses between attempts: each twice as long as the previous one, up to a bound, plus a random part. Clients that
//! failed together then do not retry together.

use std::time::Duration;

/// The largest random part, as a fraction of the pause.
const JITTER: f64 = 0.25;

/// The next pause and its bounds.
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

    /// The next pause, random part included; doubles the one after it.
    pub fn step(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.last);
        pause
    }

    /// Sleeps for the next pause.
    pub async fn pause(&mut self) {
        let pause = self.step();
        tokio::time::sleep(pause.mul_f64(1.0 + rand::random::<f64>() * JITTER)).await;
    }

    /// Starts again with the first pause, after a success.
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
