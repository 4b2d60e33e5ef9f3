-- What changed was written with the names and texts themselves, which a deleted account must not leave. From here on a line names fields, and
-- where somebody came from is forgotten with their account: nothing else of a line changes.
DROP TRIGGER audit_is_not_changed;
UPDATE audit SET detail = '{}' WHERE act IN ('account_changed', 'creator_changed');
UPDATE audit SET origin = '' WHERE actor_id IN (SELECT id FROM users WHERE deleted_at IS NOT NULL);
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
WHEN NEW.origin <> '' OR NEW.id IS NOT OLD.id OR NEW.at IS NOT OLD.at OR NEW.actor_id IS NOT OLD.actor_id OR NEW.actor_role IS NOT OLD.actor_role
    OR NEW.act IS NOT OLD.act OR NEW.object_kind IS NOT OLD.object_kind OR NEW.object_id IS NOT OLD.object_id OR NEW.detail IS NOT OLD.detail
    OR NEW.trace IS NOT OLD.trace
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
-- The text of a key may say who somebody is; its digest is enough.
UPDATE refusals SET key = '' WHERE key <> '';
