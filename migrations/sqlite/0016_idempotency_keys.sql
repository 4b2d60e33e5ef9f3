-- Idempotency keys of changes other than orders, whose keys are in the journal: which attempt a key stands for, and what was answered. Kept for a
-- day. `attempt` is the id of what is made, or goes with the command into the drop's journal record; the projection sets `done` when it
-- comes to that record.
CREATE TABLE idempotency_keys (
    user_id     BLOB NOT NULL CHECK (length(user_id) = 16),
    scope       BLOB NOT NULL CHECK (length(scope) = 32),
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    attempt     BLOB NOT NULL CHECK (length(attempt) = 16),
    done        INTEGER NOT NULL CHECK (done = 0 OR done = 1),
    status      INTEGER,
    location    TEXT,
    etag        TEXT,
    body        TEXT,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (user_id, scope)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX idempotency_keys_by_attempt ON idempotency_keys (attempt);
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (created_at);
