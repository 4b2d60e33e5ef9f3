-- Refunds that buyers ask for, one for each order, and their sellers' answers.
CREATE TABLE refund_requests (
    order_id    UUID PRIMARY KEY,
    drop_id     UUID NOT NULL,
    buyer_id    UUID NOT NULL,
    reason      TEXT NOT NULL,
    asked_at    BIGINT NOT NULL,
    status      TEXT NOT NULL,
    answer      TEXT,
    answered_at BIGINT
);
CREATE INDEX refund_requests_by_drop ON refund_requests (drop_id, order_id);
CREATE INDEX refund_requests_by_buyer ON refund_requests (buyer_id);
