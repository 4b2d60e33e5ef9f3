//! The result of a run, for people and for programs.

use super::audit::Audit;
use super::counters::{Row, Second, Verdict, Waits};
use super::machine::Machine;
use super::options::{LoadOptions, Scenario, Shape};
use super::watch::Watched;
use crate::actors::clock::system_time;
use crate::domain::Timestamp;
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

/// The complete result of a run.
#[derive(Debug, Serialize)]
pub struct LoadReport {
    pub url: String,
    /// When the crowd started.
    pub began_at: Timestamp,
    /// The load driver's version.
    pub version: &'static str,
    /// Where the load driver ran.
    pub machine: Machine,
    pub scenario: Scenario,
    pub connections: u32,
    pub seconds: f64,
    /// Absent for a closed loop.
    pub rate: Option<f64>,
    pub shape: Shape,
    pub retries: f64,
    /// Answers of any kind, per second.
    pub answers_per_second: f64,
    /// 2xx answers per second.
    pub accepted_per_second: f64,
    /// Answers per second that refused, such as `sold_out`.
    pub refused_per_second: f64,
    /// When the first answer said `sold_out`, in seconds after the start; absent if none did.
    pub sold_out_after_seconds: Option<f64>,
    /// The limit of the client on this machine, in answers per second.
    pub client_ceiling: f64,
    pub rows: Vec<Row>,
    /// Complete seconds; later answers are only in the rows. A run of less than a second has one.
    pub timeline: Vec<Second>,
    /// The result of the watching sessions.
    pub watched: Option<Watched>,
    pub audit: Audit,
}

impl LoadReport {
    pub(super) fn new(
        options: &LoadOptions,
        seconds: f64,
        client_ceiling: f64,
        (rows, mut timeline, sold_out_at): (Vec<Row>, Vec<Second>, Option<Duration>),
        watched: Option<Watched>,
        audit: Audit,
    ) -> Self {
        let of = |wanted: &dyn Fn(&Row) -> bool| {
            rows.iter().filter(|row| wanted(row)).map(|row| row.waits.count).sum::<u64>()
        };
        let answers = of(&|row| row.verdict != Verdict::Lost);
        let [accepted, refused] =
            [Verdict::Accepted, Verdict::Refused].map(|verdict| of(&|row| row.verdict == verdict));
        let whole = (seconds as usize).max(1);
        timeline.truncate(whole);
        Self {
            url: options.url.clone(),
            began_at: system_time().plus_millis(-((seconds * 1_000.0) as i64)),
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::here(),
            scenario: options.scenario,
            connections: options.connections,
            seconds,
            rate: options.rate(),
            shape: options.shape,
            retries: options.retries,
            answers_per_second: answers as f64 / seconds,
            accepted_per_second: accepted as f64 / seconds,
            refused_per_second: refused as f64 / seconds,
            sold_out_after_seconds: sold_out_at.map(|at| at.as_secs_f64()),
            client_ceiling,
            rows,
            timeline,
            watched,
            audit,
        }
    }

    /// Whether the server kept its promises.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.audit.findings.is_empty()
    }

    /// Advice if the run has measured the server's quotas and not the server.
    pub(super) fn note_of_quotas(&self) -> Option<String> {
        let beyond: u64 = self.rows.iter().filter(|row| row.code == "rate_limited").map(|row| row.waits.count).sum();
        (beyond > 0).then(|| {
            format!(
                "{beyond} requests were beyond the server's rate limits: start it with --rate-limits off to measure the server \
                 and not its quotas"
            )
        })
    }

    /// The text for people.
    #[must_use]
    pub fn rendered(&self) -> String {
        let mut text = String::new();
        // Writing to a String never fails.
        let pace =
            self.rate.map_or("closed loop".to_owned(), |rate| format!("open loop, {rate:.0}/s, {}", name(&self.shape)));
        let _ = writeln!(
            text,
            "{} · {} · {} connections · {:.1} s · {pace}",
            self.url,
            name(&self.scenario),
            self.connections,
            self.seconds
        );
        let _ = writeln!(
            text,
            "{:.0} answers/s, {:.0} of them accepted and {:.0} refused; the client alone reaches {:.0}/s here\n",
            self.answers_per_second, self.accepted_per_second, self.refused_per_second, self.client_ceiling
        );
        if let Some(after) = self.sold_out_after_seconds {
            let _ = writeln!(text, "sold out after {after:.3} s\n");
        }
        let _ = writeln!(
            text,
            "{:<8} {:<9} {:<24} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "", "", "", "count", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"
        );
        for Row { kind, verdict, code, waits } in &self.rows {
            let _ = writeln!(
                text,
                "{:<8} {:<9} {code:<24} {:>10} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
                name(kind),
                name(verdict),
                waits.count,
                waits.p50,
                waits.p90,
                waits.p99,
                waits.p999,
                waits.max
            );
        }
        if let Some(Watched { sessions, deliveries, deliveries_per_second, came_back, delay }) = self.watched {
            let _ = writeln!(
                text,
                "\n{sessions} watchers heard {deliveries} messages, {deliveries_per_second:.0} a second; {came_back} came back"
            );
            let Waits { count, p50, p90, p99, max, .. } = delay;
            if count > 0 {
                let _ = writeln!(
                    text,
                    "from a restock to each of them: p50 {p50:.2} ms, p90 {p90:.2} ms, p99 {p99:.2} ms, max {max:.2} ms"
                );
            }
        }
        if let Some(note) = self.note_of_quotas() {
            let _ = writeln!(text, "\n{note}");
        }
        let Audit { answered, answered_late, asked_again, units_promised, units_taken, findings } = &self.audit;
        let _ = writeln!(
            text,
            "\naudit: {answered} orders answered ({answered_late} of them only afterwards), {asked_again} asked again, \
             {units_promised} units promised, {units_taken} taken"
        );
        if findings.is_empty() {
            text.push_str("the server kept its word\n");
        }
        for finding in findings {
            let _ = writeln!(text, "BROKEN  {finding}");
        }
        text
    }
}

/// The name of a value in the JSON, also for people.
pub(super) fn name(of: &impl Serialize) -> String {
    serde_json::to_value(of).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
