-- Ids are the 16 bytes of a UUID, so they sort as everywhere else; times are milliseconds since the epoch.
-- The tables after `watermarks` are written by the projection only. Nothing there refers to the tables before it: a
-- journal must be able to fill an empty database.

CREATE TABLE users (
    id            BLOB PRIMARY KEY CHECK (length(id) = 16),
    email         TEXT NOT NULL UNIQUE,
    display_name  TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    role          TEXT NOT NULL CHECK (role IN ('user', 'admin')),
    created_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE refresh_tokens (
    hash       BLOB PRIMARY KEY CHECK (length(hash) = 32),
    family     BLOB NOT NULL CHECK (length(family) = 16),
    user_id    BLOB NOT NULL REFERENCES users (id),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_family ON refresh_tokens (family);

CREATE TABLE creators (
    id             BLOB PRIMARY KEY REFERENCES users (id),
    handle         TEXT NOT NULL UNIQUE,
    display_name   TEXT NOT NULL,
    bio            TEXT NOT NULL,
    follower_count INTEGER NOT NULL DEFAULT 0 CHECK (follower_count >= 0),
    created_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE follows (
    creator_id BLOB NOT NULL REFERENCES creators (id),
    user_id    BLOB NOT NULL REFERENCES users (id),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (creator_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX follows_by_user ON follows (user_id, creator_id);

CREATE TABLE products (
    id             BLOB PRIMARY KEY CHECK (length(id) = 16),
    creator_id     BLOB NOT NULL REFERENCES creators (id),
    name           TEXT NOT NULL,
    description    TEXT NOT NULL,
    price_amount   INTEGER NOT NULL CHECK (price_amount >= 0),
    price_currency TEXT NOT NULL CHECK (length(price_currency) = 3),
    created_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX products_by_creator ON products (creator_id, id);

-- Up to where each journal has been applied. `sequence` is -1 until its first record is.
CREATE TABLE watermarks (
    journal_id BLOB PRIMARY KEY CHECK (length(journal_id) = 16),
    epoch      INTEGER NOT NULL CHECK (epoch >= 0),
    sequence   INTEGER NOT NULL CHECK (sequence >= -1)
) STRICT, WITHOUT ROWID;

CREATE TABLE drops (
    id                  BLOB PRIMARY KEY CHECK (length(id) = 16),
    creator_id          BLOB NOT NULL,
    product_id          BLOB NOT NULL,
    title               TEXT NOT NULL,
    per_buyer_limit     INTEGER NOT NULL,
    low_stock_threshold INTEGER NOT NULL,
    hold_ms             INTEGER NOT NULL,
    starts_at           INTEGER NOT NULL,
    ends_at             INTEGER,
    created_at          INTEGER NOT NULL,
    status              TEXT NOT NULL CHECK (status IN ('scheduled', 'live', 'sold_out', 'ended', 'cancelled')),
    started_at          INTEGER,
    ended_at            INTEGER,
    last_event_at       INTEGER NOT NULL,
    obligations         INTEGER NOT NULL CHECK (obligations >= 0),
    settled             INTEGER NOT NULL CHECK (settled IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE INDEX drops_by_status ON drops (status, id);
CREATE INDEX drops_by_creator ON drops (creator_id, id);
CREATE INDEX drops_unsettled ON drops (id) WHERE NOT settled;

CREATE TABLE drop_variants (
    drop_id        BLOB NOT NULL REFERENCES drops (id),
    ordinal        INTEGER NOT NULL,
    id             BLOB NOT NULL CHECK (length(id) = 16),
    name           TEXT NOT NULL,
    stock          INTEGER NOT NULL CHECK (stock >= 0),
    price_amount   INTEGER NOT NULL CHECK (price_amount >= 0),
    price_currency TEXT NOT NULL CHECK (length(price_currency) = 3),
    total          INTEGER NOT NULL,
    available      INTEGER NOT NULL CHECK (available >= 0),
    held           INTEGER NOT NULL CHECK (held >= 0),
    sold           INTEGER NOT NULL CHECK (sold >= 0),
    low            INTEGER NOT NULL CHECK (low IN (0, 1)),
    PRIMARY KEY (drop_id, ordinal),
    CHECK (available + held + sold = total)
) STRICT, WITHOUT ROWID;

CREATE TABLE orders (
    id              BLOB PRIMARY KEY CHECK (length(id) = 16),
    drop_id         BLOB NOT NULL,
    variant_id      BLOB NOT NULL,
    buyer_id        BLOB NOT NULL,
    quantity        INTEGER NOT NULL CHECK (quantity > 0),
    price_amount    INTEGER NOT NULL CHECK (price_amount >= 0),
    price_currency  TEXT NOT NULL CHECK (length(price_currency) = 3),
    key             TEXT NOT NULL,
    digest          BLOB NOT NULL,
    fingerprint     INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    status          TEXT NOT NULL CHECK (status IN ('reserved', 'confirmed', 'released', 'refunded')),
    release_reason  TEXT CHECK (release_reason IN ('expired', 'payment_failed', 'cancelled')),
    confirmed_at    INTEGER,
    released_at     INTEGER,
    refunded_at     INTEGER,
    payment_ref     TEXT,
    payment_pending TEXT,
    refund_due      TEXT CHECK (refund_due IN ('late_payment', 'drop_cancelled', 'requested')),
    failed_trace    BLOB,
    CHECK ((status = 'released') = (release_reason IS NOT NULL))
) STRICT, WITHOUT ROWID;
-- A drop knows its own keys only, so a key that raced at two drops has an answer in both: unique for each drop.
CREATE UNIQUE INDEX orders_by_digest ON orders (digest, drop_id);
CREATE INDEX orders_by_drop ON orders (drop_id, id);
CREATE INDEX orders_by_buyer ON orders (buyer_id, id);

CREATE TABLE refusals (
    journal_id  BLOB NOT NULL,
    sequence    INTEGER NOT NULL,
    drop_id     BLOB NOT NULL,
    buyer_id    BLOB NOT NULL,
    key         TEXT NOT NULL,
    digest      BLOB NOT NULL,
    fingerprint INTEGER NOT NULL,
    refusal     TEXT NOT NULL CHECK (refusal IN ('drop_not_started', 'drop_ended', 'drop_cancelled', 'sold_out',
                                                 'limit_exceeded', 'unknown_variant')),
    trace       BLOB NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (journal_id, sequence)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX refusals_by_digest ON refusals (digest, drop_id);
CREATE INDEX refusals_by_drop ON refusals (drop_id, sequence);
