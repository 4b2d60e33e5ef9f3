//! Counters and gauges of connections, for `/metrics`.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Why a connection was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The server has reached its bound on connections.
    Full,
    /// The client's address has reached its bound.
    Address,
}

/// Why the server aborted a connection, or one of its streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Abort {
    /// It had no request for too long.
    Idle,
    /// It read less of its answer than [`SEND_BYTES_PER_SECOND_MIN`](crate::domain::limits::SEND_BYTES_PER_SECOND_MIN).
    Slow,
    /// One HTTP/2 stream was too slow; its connection goes on.
    SlowStream,
    /// It cancelled more HTTP/2 requests than it let complete.
    Resets,
}

/// The counters and gauges. Cheap to clone.
#[derive(Clone)]
pub struct ConnectionMetrics {
    /// Connections that are open.
    pub open: IntGauge,
    /// Bytes of large answers that clients have not read yet.
    pub unsent_bytes: IntGauge,
    /// Large answers that were refused for lack of room.
    pub answers_refused: IntCounter,
    /// Bytes of incomplete request bodies.
    pub arriving_bytes: IntGauge,
    /// Requests that were refused because their bodies had no room.
    pub bodies_refused: IntCounter,
    refused: IntCounterVec,
    aborted: IntCounterVec,
}

impl Default for ConnectionMetrics {
    fn default() -> Self {
        let gauge = |name, help| IntGauge::new(name, help).expect("a valid name");
        let by_reason =
            |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["reason"]).expect("a valid name");
        let metrics = Self {
            open: gauge("livedrop_connections", "Open connections, sessions included."),
            unsent_bytes: gauge("livedrop_unsent_bytes", "Bytes of large answers that clients have not taken yet."),
            answers_refused: IntCounter::new(
                "livedrop_answers_refused_total",
                "Large answers that were replaced by 503, because too many bytes waited for slow clients.",
            )
            .expect("a valid name"),
            arriving_bytes: gauge(
                "livedrop_arriving_bytes",
                "Bytes of request bodies of which the rest has not arrived yet.",
            ),
            bodies_refused: IntCounter::new(
                "livedrop_bodies_refused_total",
                "Requests that were answered 503, because too many bodies were arriving slowly.",
            )
            .expect("a valid name"),
            refused: by_reason("livedrop_connections_refused_total", "Connections refused at once, by reason."),
            aborted: by_reason(
                "livedrop_connections_aborted_total",
                "Connections (or HTTP/2 streams) that the server ended before their answer did, by reason.",
            ),
        };
        // Exported from the start, so that rates have a first value.
        [Refusal::Full, Refusal::Address].into_iter().for_each(|reason| metrics.refused(reason).inc_by(0));
        let aborts = [Abort::Idle, Abort::Slow, Abort::SlowStream, Abort::Resets];
        aborts.into_iter().for_each(|reason| metrics.aborted(reason).inc_by(0));
        metrics
    }
}

impl ConnectionMetrics {
    /// Connections refused for this reason.
    #[must_use]
    pub fn refused(&self, reason: Refusal) -> IntCounter {
        self.refused.with_label_values(&[match reason {
            Refusal::Full => "full",
            Refusal::Address => "address",
        }])
    }

    /// Connections ended for this reason.
    #[must_use]
    pub fn aborted(&self, reason: Abort) -> IntCounter {
        self.aborted.with_label_values(&[match reason {
            Abort::Idle => "idle",
            Abort::Slow => "slow",
            Abort::SlowStream => "slow_stream",
            Abort::Resets => "resets",
        }])
    }

    pub(super) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.open.clone()))?;
        registry.register(Box::new(self.unsent_bytes.clone()))?;
        registry.register(Box::new(self.answers_refused.clone()))?;
        registry.register(Box::new(self.arriving_bytes.clone()))?;
        registry.register(Box::new(self.bodies_refused.clone()))?;
        registry.register(Box::new(self.refused.clone()))?;
        registry.register(Box::new(self.aborted.clone()))
    }
}
