-- Refunds that buyers ask for, one for each order, and their sellers' answers.
CREATE TABLE refund_requests (
    order_id    BLOB NOT NULL PRIMARY KEY CHECK (length(order_id) = 16),
    drop_id     BLOB NOT NULL,
    buyer_id    BLOB NOT NULL,
    reason      TEXT NOT NULL,
    asked_at    INTEGER NOT NULL,
    status      TEXT NOT NULL,
    answer      TEXT,
    answered_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX refund_requests_by_drop ON refund_requests (drop_id, order_id);
CREATE INDEX refund_requests_by_buyer ON refund_requests (buyer_id);
