-- Webhooks of payment providers, each once, until they are worked on and for a while after. No contents: those have personal data, and the
-- provider is asked what is true. `worked_at` is null until then; `next_at` is when it is tried (again).
CREATE TABLE webhooks (
    provider    TEXT NOT NULL,
    id          TEXT NOT NULL,
    kind        TEXT NOT NULL,
    reference   TEXT,
    order_id    BLOB CHECK (order_id IS NULL OR length(order_id) = 16),
    received_at INTEGER NOT NULL,
    next_at     INTEGER NOT NULL,
    tries       INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0),
    worked_at   INTEGER,
    PRIMARY KEY (provider, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX webhooks_due ON webhooks (next_at) WHERE worked_at IS NULL;
CREATE INDEX webhooks_worked ON webhooks (worked_at) WHERE worked_at IS NOT NULL;
