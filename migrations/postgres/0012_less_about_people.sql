-- What changed was written with the names and texts themselves, which a deleted account must not leave. From here on a line names fields, and
-- where somebody came from is forgotten with their account: nothing else of a line changes.
DROP TRIGGER audit_stays ON audit;
UPDATE audit SET detail = '{}' WHERE act IN ('account_changed', 'creator_changed');
UPDATE audit SET origin = '' WHERE actor_id IN (SELECT id FROM users WHERE deleted_at IS NOT NULL);
CREATE TRIGGER audit_stays BEFORE DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit FOR EACH ROW
    WHEN (NEW.origin <> '' OR (NEW.id, NEW.at, NEW.actor_id, NEW.actor_role, NEW.act, NEW.object_kind, NEW.object_id, NEW.detail, NEW.trace)
        IS DISTINCT FROM (OLD.id, OLD.at, OLD.actor_id, OLD.actor_role, OLD.act, OLD.object_kind, OLD.object_id, OLD.detail, OLD.trace))
    EXECUTE FUNCTION audit_is_append_only();
-- The text of a key may say who somebody is; its digest is enough.
UPDATE refusals SET key = '' WHERE key <> '';
