ALTER TABLE users ADD COLUMN private_follows INTEGER NOT NULL DEFAULT 1 CHECK (private_follows IN (0, 1));
-- An account that was deleted keeps its row, without anything personal: orders and audits refer to it.
ALTER TABLE users ADD COLUMN deleted_at INTEGER;
CREATE INDEX refresh_tokens_user ON refresh_tokens (user_id);

-- Who did what to which object, when, and from where. Append-only.
CREATE TABLE audit (
    id          BLOB PRIMARY KEY CHECK (length(id) = 16),
    at          INTEGER NOT NULL,
    actor_id    BLOB,
    actor_role  TEXT NOT NULL,
    origin      TEXT NOT NULL,
    act         TEXT NOT NULL,
    object_kind TEXT NOT NULL,
    object_id   BLOB,
    detail      TEXT NOT NULL,
    trace       BLOB NOT NULL CHECK (length(trace) = 16)
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_by_object ON audit (object_id, id);
CREATE INDEX audit_by_actor ON audit (actor_id, id);
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
