//! The interface of the offline audit.
//!
//! The demo knows only the server's answers; the audit reads journal and database. The caller of [`run`](super::run)
//! passes it in, as an async function from (data directory, database URL) to an [`AuditVerdict`].

use super::counters::Counters;
use super::promises::Promise;
use crate::domain::{DropId, StockCounts};
use std::collections::BTreeMap;

/// The result of auditing a stopped server's data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditVerdict {
    /// Whether journal and database agree and every rule holds.
    pub clean: bool,
    /// Audited orders of all drops in the data directory.
    pub orders: u64,
    /// Units sold by drop, according to the data.
    pub confirmed_units: BTreeMap<DropId, u64>,
    /// The faults, one sentence each.
    pub findings: Vec<String>,
}

/// Compares the audit's verdict with the server's last stock and the buyers' answers.
pub(super) fn compare(verdict: &Result<AuditVerdict, String>, drop: DropId, last: StockCounts, counters: &Counters) {
    let verdict = match verdict {
        Ok(verdict) => verdict,
        Err(why) => return counters.broke(Promise::AuditClean, format!("the audit could not be done: {why}")),
    };
    for finding in &verdict.findings {
        counters.broke(Promise::AuditClean, finding.clone());
    }
    if !verdict.clean && verdict.findings.is_empty() {
        counters.broke(Promise::AuditClean, "the audit is not clean and does not say why".to_owned());
    }
    let audited = verdict.confirmed_units.get(&drop).copied().unwrap_or(0);
    if audited != u64::from(last.sold) {
        let text = format!("the data says that {audited} units are sold, the server said {}", last.sold);
        counters.broke(Promise::AuditClean, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sold(units: u32) -> StockCounts {
        StockCounts { total: 10, available: 10 - units, held: 0, sold: units }
    }

    fn broken(verdict: Result<AuditVerdict, String>, drop: DropId, units: u32) -> Vec<String> {
        let counters = Counters::new(10);
        compare(&verdict, drop, sold(units), &counters);
        counters.promises().into_iter().filter(|kept| !kept.kept).flat_map(|kept| kept.broken).collect()
    }

    #[test]
    fn a_clean_audit_with_the_same_units_says_nothing() {
        let drop = DropId::new();
        let clean =
            AuditVerdict { clean: true, orders: 7, confirmed_units: BTreeMap::from([(drop, 7)]), findings: vec![] };
        assert!(broken(Ok(clean.clone()), drop, 7).is_empty());
        assert_eq!(broken(Ok(clean), drop, 8), ["the data says that 7 units are sold, the server said 8"]);
    }

    #[test]
    fn findings_silence_and_failure_all_break_the_promise() {
        let drop = DropId::new();
        let finding = AuditVerdict { findings: vec!["order 1 is missing".into()], ..Default::default() };
        assert_eq!(broken(Ok(finding), drop, 0), ["order 1 is missing"]);
        assert_eq!(broken(Ok(AuditVerdict::default()), drop, 0).len(), 1);
        assert_eq!(broken(Err("no journal".into()), drop, 0), ["the audit could not be done: no journal"]);
    }
}
