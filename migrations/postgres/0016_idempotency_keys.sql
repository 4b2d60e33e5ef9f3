-- Idempotency keys of changes other than orders, whose keys are in the journal: which attempt a key stands for, and what was answered. Kept for a
-- day. `attempt` is the id of what is made, or goes with the command into the drop's journal record; the projection sets `done` when it
-- comes to that record.
CREATE TABLE idempotency_keys (
    user_id     UUID NOT NULL,
    scope       BYTEA NOT NULL CHECK (length(scope) = 32),
    fingerprint BYTEA NOT NULL CHECK (length(fingerprint) = 32),
    attempt     UUID NOT NULL,
    done        BIGINT NOT NULL CHECK (done IN (0, 1)),
    status      BIGINT,
    location    TEXT,
    etag        TEXT,
    body        TEXT,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (user_id, scope)
);
CREATE UNIQUE INDEX idempotency_keys_by_attempt ON idempotency_keys (attempt);
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (created_at);
