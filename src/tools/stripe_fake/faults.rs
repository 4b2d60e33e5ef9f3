//! What goes wrong on purpose with calls of the API.

use super::limits::FAULTS_MAX;
use serde::Deserialize;
use std::time::Duration;

/// A fault, for as many calls as it says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub kind: Kind,
    /// Of calls whose path begins so; of all if absent.
    #[serde(default)]
    pub path: Option<String>,
    /// Of calls with this method; of all if absent.
    #[serde(default)]
    pub method: Option<String>,
    /// Of how many calls; one if absent.
    #[serde(default = "once")]
    pub times: u32,
    /// With `kind` `answer`: the status.
    #[serde(default)]
    pub status: Option<u16>,
    /// With `kind` `delay`: milliseconds.
    #[serde(default)]
    pub delay_ms: Option<u64>,
}

fn once() -> u32 {
    1
}

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An error instead of the work.
    Answer,
    /// The connection ends before the work.
    LostRequest,
    /// The connection ends after the work.
    LostAnswer,
    /// No answer at all, and no work.
    Hang,
    /// The work and its answer come later.
    Delay,
}

/// What a call meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Usual,
    Answer(u16),
    LostRequest,
    LostAnswer,
    Hang,
    Delay(Duration),
}

/// The faults that wait, oldest first.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Adds a fault; returns whether there was room.
    pub fn add(&mut self, fault: Fault) -> bool {
        let room = self.0.len() < FAULTS_MAX && fault.times > 0;
        if room {
            self.0.push(fault);
        }
        room
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What a call meets: the first fault that is about it, once less from now on.
    pub fn meet(&mut self, method: &str, path: &str) -> Fate {
        let about = |fault: &Fault| {
            let of = |wanted: &Option<String>, is: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(is);
            of(&fault.path, &|wanted| path.starts_with(wanted)) && of(&fault.method, &|wanted| method == wanted)
        };
        let Some(index) = self.0.iter().position(about) else { return Fate::Usual };
        let fault = &mut self.0[index];
        fault.times -= 1;
        let fate = match fault.kind {
            Kind::Answer => Fate::Answer(fault.status.unwrap_or(500)),
            Kind::LostRequest => Fate::LostRequest,
            Kind::LostAnswer => Fate::LostAnswer,
            Kind::Hang => Fate::Hang,
            Kind::Delay => Fate::Delay(Duration::from_millis(fault.delay_ms.unwrap_or(1_000))),
        };
        if fault.times == 0 {
            self.0.remove(index);
        }
        fate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_meets_the_calls_that_it_is_about_and_ends() {
        let mut faults = Faults::default();
        let fault = |text: &str| serde_json::from_str::<Fault>(text).unwrap();
        assert!(faults.add(fault(r#"{"kind":"lost_answer","path":"/v1/refunds","times":2}"#)));
        assert!(faults.add(fault(r#"{"kind":"answer","status":429,"method":"POST"}"#)));
        assert!(!faults.add(fault(r#"{"kind":"hang","times":0}"#)));
        assert_eq!(faults.meet("GET", "/v1/payment_intents"), Fate::Usual);
        assert_eq!(faults.meet("GET", "/v1/refunds"), Fate::LostAnswer);
        assert_eq!(faults.meet("POST", "/v1/refunds"), Fate::LostAnswer);
        assert_eq!(faults.meet("POST", "/v1/refunds"), Fate::Answer(429));
        assert_eq!(faults.meet("POST", "/v1/refunds"), Fate::Usual);
        assert!(serde_json::from_str::<Fault>(r#"{"kind":"other"}"#).is_err());
    }
}
