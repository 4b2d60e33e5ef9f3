-- What an order's own row forgets when it goes on: a hold that ran out before it was bought after all, and when a refund
-- became due. With the row it makes the order's history.
CREATE TABLE order_notes (
    order_id BLOB NOT NULL CHECK (length(order_id) = 16),
    sequence INTEGER NOT NULL,
    kind     TEXT NOT NULL CHECK (kind IN ('released', 'refund_due')),
    at       INTEGER NOT NULL,
    reason   TEXT NOT NULL,
    PRIMARY KEY (order_id, sequence, kind)
) STRICT, WITHOUT ROWID;
