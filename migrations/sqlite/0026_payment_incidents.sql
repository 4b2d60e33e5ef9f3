-- What a provider tells of an order's payment when it is settled, and its seller has to know: refunds that the bank has refused, disputes.
-- Each event once.
CREATE TABLE payment_incidents (
    order_id BLOB NOT NULL CHECK (length(order_id) = 16),
    provider TEXT NOT NULL,
    id       TEXT NOT NULL,
    kind     TEXT NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (order_id, provider, id)
) STRICT, WITHOUT ROWID;
