//! What a reconciliation found.

use super::compare::DifferenceKind;
use crate::domain::limits::RECONCILE_FINDINGS_MAX;
use crate::domain::{OrderId, PaymentProvider, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// A difference between the provider's books and ours.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    pub kind: DifferenceKind,
    pub order_id: OrderId,
    /// From 1.
    pub attempt: u32,
    /// The provider's reference.
    pub payment: String,
    /// For people.
    pub detail: String,
    /// Whether it was repaired at once.
    pub repaired: bool,
}

/// The result of a reconciliation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ReconcileReport {
    pub provider: PaymentProvider,
    /// Payments made from then on …
    pub from: Timestamp,
    /// … until then were compared.
    pub to: Timestamp,
    /// How many these are.
    pub payments: u64,
    /// Whether all of them were read: there is a bound.
    pub complete: bool,
    /// Differences that are left.
    pub differences: u64,
    /// Differences that were repaired.
    pub repaired: u64,
    /// The same by kind, repaired or not.
    pub by_kind: BTreeMap<DifferenceKind, u64>,
    /// Those of them that were repaired.
    pub repaired_by_kind: BTreeMap<DifferenceKind, u64>,
    /// The first of them.
    pub findings: Vec<Difference>,
}

impl ReconcileReport {
    pub(super) fn new(provider: PaymentProvider, from: Timestamp, to: Timestamp) -> Self {
        Self {
            provider,
            from,
            to,
            payments: 0,
            complete: false,
            differences: 0,
            repaired: 0,
            by_kind: BTreeMap::new(),
            repaired_by_kind: BTreeMap::new(),
            findings: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, difference: Difference) {
        *self.by_kind.entry(difference.kind).or_default() += 1;
        match difference.repaired {
            true => {
                self.repaired += 1;
                *self.repaired_by_kind.entry(difference.kind).or_default() += 1;
            }
            false => self.differences += 1,
        }
        if self.findings.len() < RECONCILE_FINDINGS_MAX {
            self.findings.push(difference);
        }
    }

    /// How many of a kind were repaired.
    pub(super) fn repaired_of(&self, kind: DifferenceKind) -> u64 {
        self.repaired_by_kind.get(&kind).copied().unwrap_or_default()
    }

    /// Whether all payments were compared and no difference is left.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.complete && self.differences == 0
    }

    /// The report for a person.
    #[must_use]
    pub fn render(&self) -> String {
        let Self { provider, from, to, payments, differences, repaired, .. } = self;
        let mut text = format!("compared  {payments} payments by {}, made from {from} to {to}\n", provider.as_str());
        for Difference { kind, order_id, attempt, payment, detail, repaired } in &self.findings {
            let done = if *repaired { "; repaired" } else { "" };
            let kind = kind.as_str();
            text.push_str(&format!("  - {kind}: {payment}, attempt {attempt} of order {order_id}: {detail}{done}\n"));
        }
        let listed = self.findings.len() as u64;
        if listed < differences + repaired {
            text.push_str(&format!("  … and {} more\n", differences + repaired - listed));
        }
        if !self.complete {
            text.push_str("not all payments were read: there are too many in this time\n");
        }
        let verdict = match (differences, repaired) {
            (0, 0) => "the provider and the orders agree".to_owned(),
            (left, repaired) => format!("{left} differences are left, {repaired} are repaired"),
        };
        text + "verdict   " + &verdict + "\n"
    }
}
