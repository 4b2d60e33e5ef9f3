-- Addresses of users, encrypted: `sealed` by a key of the row's own, `data_key`, which the key `key_id` of the key file wraps. A row is a version
-- and never changes, apart from its wrapping; a change is a new row in its place.
CREATE TABLE addresses (
    id          BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    address_id  BLOB NOT NULL UNIQUE CHECK (length(address_id) = 16),
    user_id     BLOB NOT NULL REFERENCES users (id),
    updated_at  INTEGER NOT NULL,
    key_id      TEXT NOT NULL,
    data_key    BLOB NOT NULL,
    sealed      BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX addresses_user ON addresses (user_id, address_id);
CREATE INDEX addresses_key ON addresses (key_id, id);
