-- Versions of addresses that were changed or deleted, as they were: sellers read where an order is to be sent. They are kept while an order may
-- name them, and not for ever.
CREATE TABLE past_addresses (
    id          UUID PRIMARY KEY,
    address_id  UUID NOT NULL,
    user_id     UUID NOT NULL REFERENCES users (id),
    updated_at  BIGINT NOT NULL,
    key_id      TEXT NOT NULL,
    data_key    BYTEA NOT NULL,
    sealed      BYTEA NOT NULL,
    retired_at  BIGINT NOT NULL
);
CREATE INDEX past_addresses_retired ON past_addresses (retired_at, id);
CREATE INDEX past_addresses_key ON past_addresses (key_id, id);
