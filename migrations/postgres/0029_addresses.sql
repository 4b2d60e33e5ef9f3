-- Addresses of users, encrypted: `sealed` by a key of the row's own, `data_key`, which the key `key_id` of the key file wraps. A row is a version
-- and never changes, apart from its wrapping; a change is a new row in its place.
CREATE TABLE addresses (
    id          UUID PRIMARY KEY,
    address_id  UUID NOT NULL UNIQUE,
    user_id     UUID NOT NULL REFERENCES users (id),
    updated_at  BIGINT NOT NULL,
    key_id      TEXT NOT NULL,
    data_key    BYTEA NOT NULL,
    sealed      BYTEA NOT NULL
);
CREATE INDEX addresses_user ON addresses (user_id, address_id);
CREATE INDEX addresses_key ON addresses (key_id, id);
