-- Whether a follower lets others see it, repeated from their account: a page of a creator's followers must not have to read all those who do not.
ALTER TABLE follows ADD COLUMN listed BIGINT NOT NULL DEFAULT 0 CHECK (listed IN (0, 1));
UPDATE follows SET listed = 1 WHERE user_id IN (SELECT id FROM users WHERE private_follows = 0);
CREATE INDEX follows_listed ON follows (creator_id, user_id) WHERE listed = 1;
