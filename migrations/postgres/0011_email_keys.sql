-- The form in which an address is unique: without differences of case, width and composition, its domain in ASCII. Outside of ASCII the
-- program makes it, at the next start. Where two accounts have the same one, the older has it, and the other signs in with its address as
-- it was registered.
ALTER TABLE users ADD COLUMN email_key TEXT;
UPDATE users SET email_key = email WHERE deleted_at IS NULL AND octet_length(email) = char_length(email);
CREATE UNIQUE INDEX users_by_email_key ON users (email_key);
CREATE INDEX users_without_key ON users (id) WHERE email_key IS NULL AND deleted_at IS NULL;
