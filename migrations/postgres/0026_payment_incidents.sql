-- What a provider tells of an order's payment when it is settled, and its seller has to know: refunds that the bank has refused, disputes.
-- Each event once.
CREATE TABLE payment_incidents (
    order_id UUID NOT NULL,
    provider TEXT NOT NULL,
    id       TEXT NOT NULL,
    kind     TEXT NOT NULL,
    at       BIGINT NOT NULL,
    PRIMARY KEY (order_id, provider, id)
);
