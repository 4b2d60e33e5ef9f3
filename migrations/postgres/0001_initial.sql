-- Times are milliseconds since the epoch. Every number is a BIGINT, so that a row reads the same as from SQLite.
-- The tables after `watermarks` are written by the projection only. Nothing there refers to the tables before it: a
-- journal must be able to fill an empty database.

CREATE TABLE users (
    id            UUID PRIMARY KEY,
    email         TEXT NOT NULL UNIQUE,
    display_name  TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    role          TEXT NOT NULL CHECK (role IN ('user', 'admin')),
    created_at    BIGINT NOT NULL
);

CREATE TABLE refresh_tokens (
    hash       BYTEA PRIMARY KEY CHECK (length(hash) = 32),
    family     UUID NOT NULL,
    user_id    UUID NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at    BIGINT,
    revoked_at BIGINT
);
CREATE INDEX refresh_tokens_family ON refresh_tokens (family);

CREATE TABLE creators (
    id             UUID PRIMARY KEY REFERENCES users (id),
    handle         TEXT NOT NULL UNIQUE,
    display_name   TEXT NOT NULL,
    bio            TEXT NOT NULL,
    follower_count BIGINT NOT NULL DEFAULT 0 CHECK (follower_count >= 0),
    created_at     BIGINT NOT NULL
);

CREATE TABLE follows (
    creator_id UUID NOT NULL REFERENCES creators (id),
    user_id    UUID NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    PRIMARY KEY (creator_id, user_id)
) PARTITION BY HASH (creator_id);
DO $$
BEGIN
    FOR part IN 0..15 LOOP
        EXECUTE format('CREATE TABLE follows_%s PARTITION OF follows FOR VALUES WITH (MODULUS 16, REMAINDER %s)', part, part);
    END LOOP;
END $$;
CREATE INDEX follows_by_user ON follows (user_id, creator_id);

CREATE TABLE products (
    id             UUID PRIMARY KEY,
    creator_id     UUID NOT NULL REFERENCES creators (id),
    name           TEXT NOT NULL,
    description    TEXT NOT NULL,
    price_amount   BIGINT NOT NULL CHECK (price_amount >= 0),
    price_currency TEXT NOT NULL CHECK (length(price_currency) = 3),
    created_at     BIGINT NOT NULL
);
CREATE INDEX products_by_creator ON products (creator_id, id);

-- Up to where each journal has been applied. `sequence` is -1 until its first record is.
CREATE TABLE watermarks (
    journal_id UUID PRIMARY KEY,
    epoch      BIGINT NOT NULL CHECK (epoch >= 0),
    sequence   BIGINT NOT NULL CHECK (sequence >= -1)
);

CREATE TABLE drops (
    id                  UUID PRIMARY KEY,
    creator_id          UUID NOT NULL,
    product_id          UUID NOT NULL,
    title               TEXT NOT NULL,
    per_buyer_limit     BIGINT NOT NULL,
    low_stock_threshold BIGINT NOT NULL,
    hold_ms             BIGINT NOT NULL,
    starts_at           BIGINT NOT NULL,
    ends_at             BIGINT,
    created_at          BIGINT NOT NULL,
    status              TEXT NOT NULL CHECK (status IN ('scheduled', 'live', 'sold_out', 'ended', 'cancelled')),
    started_at          BIGINT,
    ended_at            BIGINT,
    last_event_at       BIGINT NOT NULL,
    obligations         BIGINT NOT NULL CHECK (obligations >= 0),
    settled             BOOLEAN NOT NULL
) WITH (fillfactor = 60);
CREATE INDEX drops_by_status ON drops (status, id);
CREATE INDEX drops_by_creator ON drops (creator_id, id);
CREATE INDEX drops_unsettled ON drops (id) WHERE NOT settled;

CREATE TABLE drop_variants (
    drop_id        UUID NOT NULL REFERENCES drops (id),
    ordinal        BIGINT NOT NULL,
    id             UUID NOT NULL,
    name           TEXT NOT NULL,
    stock          BIGINT NOT NULL CHECK (stock >= 0),
    price_amount   BIGINT NOT NULL CHECK (price_amount >= 0),
    price_currency TEXT NOT NULL CHECK (length(price_currency) = 3),
    total          BIGINT NOT NULL,
    available      BIGINT NOT NULL CHECK (available >= 0),
    held           BIGINT NOT NULL CHECK (held >= 0),
    sold           BIGINT NOT NULL CHECK (sold >= 0),
    low            BOOLEAN NOT NULL,
    PRIMARY KEY (drop_id, ordinal),
    CHECK (available + held + sold = total)
) WITH (fillfactor = 50);

CREATE TABLE orders (
    id              UUID PRIMARY KEY,
    drop_id         UUID NOT NULL,
    variant_id      UUID NOT NULL,
    buyer_id        UUID NOT NULL,
    quantity        BIGINT NOT NULL CHECK (quantity > 0),
    price_amount    BIGINT NOT NULL CHECK (price_amount >= 0),
    price_currency  TEXT NOT NULL CHECK (length(price_currency) = 3),
    key             TEXT NOT NULL,
    digest          UUID NOT NULL,
    fingerprint     BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,
    status          TEXT NOT NULL CHECK (status IN ('reserved', 'confirmed', 'released', 'refunded')),
    release_reason  TEXT CHECK (release_reason IN ('expired', 'payment_failed', 'cancelled')),
    confirmed_at    BIGINT,
    released_at     BIGINT,
    refunded_at     BIGINT,
    payment_ref     TEXT,
    payment_pending TEXT,
    refund_due      TEXT CHECK (refund_due IN ('late_payment', 'drop_cancelled', 'requested')),
    failed_trace    UUID,
    CHECK ((status = 'released') = (release_reason IS NOT NULL))
) WITH (fillfactor = 75);
-- No index names a column that changes while an order lives, and pages keep some room: updates stay on their page.
-- A drop knows its own keys only, so a key that raced at two drops has an answer in both: unique for each drop.
CREATE UNIQUE INDEX orders_by_digest ON orders (digest, drop_id);
CREATE INDEX orders_by_drop ON orders (drop_id, id);
CREATE INDEX orders_by_buyer ON orders (buyer_id, id);

CREATE TABLE refusals (
    journal_id  UUID NOT NULL,
    sequence    BIGINT NOT NULL,
    drop_id     UUID NOT NULL,
    buyer_id    UUID NOT NULL,
    key         TEXT NOT NULL,
    digest      UUID NOT NULL,
    fingerprint BIGINT NOT NULL,
    refusal     TEXT NOT NULL CHECK (refusal IN ('drop_not_started', 'drop_ended', 'drop_cancelled', 'sold_out',
                                                 'limit_exceeded', 'unknown_variant')),
    trace       UUID NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (journal_id, sequence)
);
CREATE UNIQUE INDEX refusals_by_digest ON refusals (digest, drop_id);
CREATE INDEX refusals_by_drop ON refusals (drop_id, sequence);
