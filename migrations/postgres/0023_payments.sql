-- What an order keeps of its payments, where it cannot be assumed from the other columns: NULL is one attempt with play money, if there was any.
ALTER TABLE orders
    ADD COLUMN payment_provider TEXT,
    ADD COLUMN payment_attempts BIGINT,
    ADD COLUMN capture_due BOOLEAN,
    ADD COLUMN payment_declined TEXT;
ALTER TABLE orders DROP CONSTRAINT orders_refund_due_check;
ALTER TABLE orders ADD CONSTRAINT orders_refund_due_check
    CHECK (refund_due IN ('late_payment', 'drop_cancelled', 'requested', 'capture_failed'));

-- The history of payments: a row for each step. Play money leaves none.
CREATE TABLE payment_notes (
    order_id  UUID NOT NULL,
    sequence  BIGINT NOT NULL,
    attempt   BIGINT NOT NULL CHECK (attempt > 0),
    provider  TEXT NOT NULL,
    step      TEXT NOT NULL,
    at        BIGINT NOT NULL,
    reference TEXT,
    detail    TEXT,
    PRIMARY KEY (order_id, sequence)
);
