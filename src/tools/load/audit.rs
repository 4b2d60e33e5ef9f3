//! The closing audit: checks that the server still gives the same answers, and that its stock adds up to them.

use super::crowd::{Crowd, Memory, OrderOutcome, OrderRequest};
use super::http_connection::HttpConnection;
use super::progress::progress;
use super::setup::{Request, stock};
use rand::seq::SliceRandom;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const AUDITORS: usize = 32;
const ATTEMPTS: u32 = 60;
/// Findings named in full; more would not help a reader.
const NAMED_MAX: usize = 5;

/// The result of the audit.
#[derive(Debug, Default, Serialize)]
pub struct Audit {
    /// Orders with a final answer.
    pub answered: u64,
    /// Keys without an answer during the run that have one now.
    pub answered_late: u64,
    /// Keys that were sent again.
    pub asked_again: u64,
    /// Units that the answers promised, over all drops.
    pub units_promised: u64,
    /// Units that the server reports as held or sold.
    pub units_taken: u64,
    /// Broken promises; empty if everything holds.
    pub findings: Vec<String>,
}

/// Repeats all requests without an answer and a sample of the others, and compares the stock.
pub async fn audit(crowd: &Arc<Crowd>, memories: Vec<Memory>) -> Audit {
    let mut audit = Audit::default();
    let mut cancelled: BTreeMap<u32, u64> = BTreeMap::new();
    let (mut asked, mut contradictions) = (Vec::new(), Vec::new());
    for memory in memories {
        memory.cancelled.iter().for_each(|drop| *cancelled.entry(*drop).or_default() += 1);
        asked.extend(memory.asked);
        contradictions.extend(memory.contradictions);
    }
    asked.retain(|asked| asked.outcome != OrderOutcome::Refused);
    let (unknown, mut known): (Vec<OrderRequest>, Vec<OrderRequest>) =
        asked.into_iter().partition(|asked| asked.outcome == OrderOutcome::Nothing);
    known.shuffle(&mut rand::rng());
    let sample = known.len().min(crowd.options.audit);
    let late = ask_all(crowd, unknown, "keys without an answer").await;
    let again = ask_all(crowd, known[..sample].to_vec(), "answered keys").await;
    audit.asked_again = again.len() as u64;
    let changed =
        |(asked, now): &&(OrderRequest, Now)| asked.outcome != now.outcome || (asked.is_order() && !now.replayed);
    contradictions.extend(again.iter().filter(changed).map(|(asked, _)| asked.key(&crowd.run)));
    if !contradictions.is_empty() {
        let named = contradictions[..contradictions.len().min(NAMED_MAX)].join(", ");
        audit.findings.push(format!("{} keys did not get their first answer again: {named}", contradictions.len()));
    }
    let settled: Vec<OrderRequest> =
        late.iter().map(|(asked, now)| OrderRequest { outcome: now.outcome, ..*asked }).collect();
    let unanswered = settled.iter().filter(|asked| asked.outcome == OrderOutcome::Nothing).count();
    audit.answered_late = (settled.len() - unanswered) as u64;
    audit.answered = (known.len() + settled.len() - unanswered) as u64;
    if unanswered > 0 {
        audit.findings.push(format!("{unanswered} keys have no answer at all"));
    }
    let mut promised: BTreeMap<u32, u64> = BTreeMap::new();
    for order in known.iter().chain(&settled).filter(|asked| asked.is_order()) {
        *promised.entry(order.drop).or_default() += 1;
    }
    for (at, drop) in crowd.setup.drops.iter().enumerate() {
        let at = at as u32;
        let promised = promised.get(&at).copied().unwrap_or_default() - cancelled.get(&at).copied().unwrap_or_default();
        audit.units_promised += promised;
        match stock(&crowd.target, drop).await {
            Some(stock) => {
                audit.units_taken += stock.held + stock.sold;
                if stock.available + stock.held + stock.sold != stock.total {
                    audit.findings.push(format!("drop {drop}: available + held + sold is not the total: {stock}"));
                }
                if stock.held + stock.sold != promised {
                    let taken = stock.held + stock.sold;
                    audit.findings.push(format!("drop {drop}: {promised} units were promised, {taken} are taken"));
                }
            }
            None => audit.findings.push(format!("drop {drop}: its stock cannot be read")),
        }
    }
    audit
}

/// The current answer of each key.
async fn ask_all(crowd: &Arc<Crowd>, asked: Vec<OrderRequest>, what: &'static str) -> Vec<(OrderRequest, Now)> {
    let (asked, next) = (Arc::new(asked), Arc::new(AtomicUsize::new(0)));
    let auditors = (0..AUDITORS.min(asked.len())).map(|_| {
        let (crowd, asked, next) = (Arc::clone(crowd), Arc::clone(&asked), Arc::clone(&next));
        tokio::spawn(async move {
            let (mut line, mut request, mut outcome) = (None, Request::default(), Vec::new());
            while let Some(one) = asked.get(next.fetch_add(1, Ordering::Relaxed)) {
                outcome.push((*one, ask(&crowd, &mut line, &mut request, one).await));
            }
            outcome
        })
    });
    let (total, begun) = (asked.len(), Arc::clone(&next));
    let progress = progress(move |seconds| {
        let done = begun.load(Ordering::Relaxed).min(total);
        (done < total).then(|| format!("{seconds:>4} s  audit: {what} asked again, {done} of {total}"))
    });
    let mut outcome = Vec::new();
    for auditor in futures_util::future::join_all(auditors).await {
        outcome.extend(auditor.expect("an auditor does not panic"));
    }
    progress.abort();
    outcome
}

/// The current answer of a key.
struct Now {
    outcome: OrderOutcome,
    /// Whether the server marks it as a replay.
    replayed: bool,
}

/// Sends a request until it has a final answer.
async fn ask(crowd: &Crowd, line: &mut Option<HttpConnection>, request: &mut Request, asked: &OrderRequest) -> Now {
    asked.write(crowd, request);
    for _ in 0..ATTEMPTS {
        if line.as_ref().is_none_or(HttpConnection::is_over) {
            *line = HttpConnection::connect(crowd.target.address).await.ok();
        }
        if let Some(line) = line
            && let Ok(answer) = line.exchange(request.as_bytes()).await
        {
            let outcome = OrderOutcome::of(answer.status, answer.body);
            if outcome.is_answer() {
                return Now { outcome, replayed: answer.replayed };
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Now { outcome: OrderOutcome::Nothing, replayed: false }
}
