-- Versions of addresses that were changed or deleted, as they were: sellers read where an order is to be sent. They are kept while an order may
-- name them, and not for ever.
CREATE TABLE past_addresses (
    id          BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    address_id  BLOB NOT NULL CHECK (length(address_id) = 16),
    user_id     BLOB NOT NULL REFERENCES users (id),
    updated_at  INTEGER NOT NULL,
    key_id      TEXT NOT NULL,
    data_key    BLOB NOT NULL,
    sealed      BLOB NOT NULL,
    retired_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX past_addresses_retired ON past_addresses (retired_at, id);
CREATE INDEX past_addresses_key ON past_addresses (key_id, id);
