-- Numbers stay BIGINT, flags too: a row reads the same as from SQLite.
ALTER TABLE users ADD COLUMN private_follows BIGINT NOT NULL DEFAULT 1 CHECK (private_follows IN (0, 1));
-- An account that was deleted keeps its row, without anything personal: orders and audits refer to it.
ALTER TABLE users ADD COLUMN deleted_at BIGINT;
CREATE INDEX refresh_tokens_user ON refresh_tokens (user_id);

-- Who did what to which object, when, and from where. Append-only.
CREATE TABLE audit (
    id          UUID PRIMARY KEY,
    at          BIGINT NOT NULL,
    actor_id    UUID,
    actor_role  TEXT NOT NULL,
    origin      TEXT NOT NULL,
    act         TEXT NOT NULL,
    object_kind TEXT NOT NULL,
    object_id   UUID,
    detail      TEXT NOT NULL,
    trace       UUID NOT NULL
);
CREATE INDEX audit_by_object ON audit (object_id, id);
CREATE INDEX audit_by_actor ON audit (actor_id, id);
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is append-only';
END $$;
CREATE TRIGGER audit_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
