-- An access token carries its account's version: raising it revokes every one that was issued before.
ALTER TABLE users ADD COLUMN token_version INTEGER NOT NULL DEFAULT 0 CHECK (token_version >= 0);
ALTER TABLE users ADD COLUMN tokens_revoked_at INTEGER;
CREATE INDEX users_by_tokens_revoked ON users (tokens_revoked_at) WHERE tokens_revoked_at IS NOT NULL;
-- The last token of each login that was ended.
CREATE INDEX refresh_tokens_by_revocation ON refresh_tokens (revoked_at) WHERE revoked_at IS NOT NULL AND used_at IS NULL;
