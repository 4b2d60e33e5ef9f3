-- What an order keeps of its payments, where it cannot be assumed from the other columns: NULL is one attempt with play money, if there was any.
ALTER TABLE orders ADD COLUMN payment_provider TEXT;
ALTER TABLE orders ADD COLUMN payment_attempts INTEGER;
ALTER TABLE orders ADD COLUMN capture_due INTEGER;
ALTER TABLE orders ADD COLUMN payment_declined TEXT;
-- One more cause. What is stored does not change, so the definition may be written in place
-- (https://www.sqlite.org/lang_altertable.html, section 7).
PRAGMA writable_schema = ON;
UPDATE sqlite_schema
SET sql = replace(sql, 'refund_due = ''requested''', 'refund_due = ''requested'' OR refund_due = ''capture_failed''')
WHERE type = 'table' AND name = 'orders';
PRAGMA writable_schema = RESET;

-- The history of payments: a row for each step. Play money leaves none.
CREATE TABLE payment_notes (
    order_id  BLOB NOT NULL,
    sequence  INTEGER NOT NULL,
    attempt   INTEGER NOT NULL CHECK (attempt > 0),
    provider  TEXT NOT NULL,
    step      TEXT NOT NULL,
    at        INTEGER NOT NULL,
    reference TEXT,
    detail    TEXT,
    PRIMARY KEY (order_id, sequence)
) STRICT, WITHOUT ROWID;
