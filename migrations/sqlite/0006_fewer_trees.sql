-- Orders and refusals lie by drop, so that being listed by drop costs no tree of its own.
--
-- What is looked for by user or by key comes in no order: in a tree that is large, each of them is a page that is read and written twice. So that
-- tree begins anew now and then, an era each, and a look-up goes through all eras: their number grows with the logarithm of the rows.

-- How many orders, refusals and lines of inboxes an era has. New ones belong to the last.
CREATE TABLE eras (
    era     INTEGER PRIMARY KEY,
    entries INTEGER NOT NULL CHECK (entries >= 0)
) STRICT;
INSERT INTO eras (era, entries)
SELECT 0, (SELECT COUNT(*) FROM orders) + (SELECT COUNT(*) FROM refusals) + (SELECT COUNT(*) FROM inbox);

-- The last 32 bits of an order's id, which repeat its drop's, as a signed number: with them, an id alone leads to its row. Of the key's digest,
-- 32 bits are enough to know most other keys from it without their rows.
CREATE TABLE orders_anew (
    drop_tag        INTEGER NOT NULL,
    id              BLOB NOT NULL CHECK (length(id) = 16),
    era             INTEGER NOT NULL,
    drop_id         BLOB NOT NULL,
    variant_id      BLOB NOT NULL,
    buyer_id        BLOB NOT NULL,
    quantity        INTEGER NOT NULL CHECK (quantity > 0),
    price_amount    INTEGER NOT NULL CHECK (price_amount >= 0),
    price_currency  TEXT NOT NULL CHECK (length(price_currency) = 3),
    key             TEXT NOT NULL,
    key_bits        INTEGER NOT NULL,
    fingerprint     INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    status          TEXT NOT NULL DEFAULT 'reserved' CHECK (status IN ('reserved', 'confirmed', 'released', 'refunded')),
    release_reason  TEXT CHECK (release_reason IN ('expired', 'payment_failed', 'cancelled')),
    confirmed_at    INTEGER,
    released_at     INTEGER,
    refunded_at     INTEGER,
    payment_ref     TEXT,
    payment_pending TEXT,
    refund_due      TEXT CHECK (refund_due IN ('late_payment', 'drop_cancelled', 'requested')),
    failed_trace    BLOB,
    PRIMARY KEY (drop_tag, id),
    CHECK ((status = 'released') = (release_reason IS NOT NULL))
) STRICT, WITHOUT ROWID;
-- SQLite reads no number from a blob.
CREATE TABLE bytes (hex TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
WITH RECURSIVE numbers (value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM numbers WHERE value < 255)
INSERT INTO bytes SELECT printf('%02X', value), value FROM numbers;
WITH numbers (id, tag, key_bits) AS (
    SELECT id,
           (SELECT value FROM bytes WHERE hex = hex(substr(id, 13, 1))) * 16777216
           + (SELECT value FROM bytes WHERE hex = hex(substr(id, 14, 1))) * 65536
           + (SELECT value FROM bytes WHERE hex = hex(substr(id, 15, 1))) * 256
           + (SELECT value FROM bytes WHERE hex = hex(substr(id, 16, 1))),
           (SELECT value FROM bytes WHERE hex = hex(substr(digest, 1, 1))) * 16777216
           + (SELECT value FROM bytes WHERE hex = hex(substr(digest, 2, 1))) * 65536
           + (SELECT value FROM bytes WHERE hex = hex(substr(digest, 3, 1))) * 256
           + (SELECT value FROM bytes WHERE hex = hex(substr(digest, 4, 1)))
    FROM orders
)
INSERT INTO orders_anew
SELECT (tag + 2147483648) % 4294967296 - 2147483648, id, 0, drop_id, variant_id, buyer_id, quantity, price_amount, price_currency, key,
       (key_bits + 2147483648) % 4294967296 - 2147483648, fingerprint, created_at, expires_at, status, release_reason, confirmed_at,
       released_at, refunded_at, payment_ref, payment_pending, refund_due, failed_trace
FROM orders JOIN numbers USING (id)
ORDER BY 1, 2;
DROP TABLE bytes;
DROP TABLE orders;
ALTER TABLE orders_anew RENAME TO orders;
CREATE INDEX orders_by_buyer ON orders (era, buyer_id, id, key_bits);

CREATE TABLE refusals_anew (
    drop_id     BLOB NOT NULL,
    sequence    INTEGER NOT NULL,
    journal_id  BLOB NOT NULL,
    era         INTEGER NOT NULL,
    buyer_id    BLOB NOT NULL,
    key         TEXT NOT NULL,
    digest      BLOB NOT NULL,
    fingerprint INTEGER NOT NULL,
    refusal     TEXT NOT NULL CHECK (refusal IN ('drop_not_started', 'drop_ended', 'drop_cancelled', 'sold_out',
                                                 'limit_exceeded', 'unknown_variant')),
    trace       BLOB NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (drop_id, sequence, journal_id)
) STRICT, WITHOUT ROWID;
INSERT INTO refusals_anew
SELECT drop_id, sequence, journal_id, 0, buyer_id, key, digest, fingerprint, refusal, trace, at
FROM refusals ORDER BY drop_id, sequence, journal_id;
DROP TABLE refusals;
ALTER TABLE refusals_anew RENAME TO refusals;
CREATE INDEX refusals_by_digest ON refusals (era, digest);

-- In the order of telling. Lines of followers, who are few for one event, all belong to the first era.
CREATE TABLE inbox_anew (
    journal_id      BLOB NOT NULL CHECK (length(journal_id) = 16),
    sequence        INTEGER NOT NULL,
    user_id         BLOB NOT NULL CHECK (length(user_id) = 16),
    era             INTEGER NOT NULL DEFAULT 0,
    kind            TEXT NOT NULL,
    at              INTEGER NOT NULL,
    drop_id         BLOB NOT NULL CHECK (length(drop_id) = 16),
    creator_id      BLOB CHECK (length(creator_id) = 16),
    order_id        BLOB CHECK (length(order_id) = 16),
    variant_id      BLOB CHECK (length(variant_id) = 16),
    quantity        INTEGER,
    reason          TEXT,
    acknowledged_at INTEGER,
    read_at         INTEGER,
    PRIMARY KEY (journal_id, sequence, user_id),
    CHECK ((creator_id IS NULL) <> (order_id IS NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO inbox_anew
SELECT journal_id, sequence, user_id, 0, kind, at, drop_id, creator_id, order_id, variant_id, quantity, reason, acknowledged_at, read_at
FROM inbox ORDER BY journal_id, sequence, user_id;
DROP TABLE inbox;
ALTER TABLE inbox_anew RENAME TO inbox;
CREATE INDEX inbox_by_user ON inbox (era, user_id, journal_id, sequence);
CREATE INDEX inbox_by_time ON inbox (at);
