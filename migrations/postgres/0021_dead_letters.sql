-- Events that a consumer's target refused, and records of which it could not make one, each with the reason, until they are sent again. Moved here
-- from a file that takes them while the database is away.
CREATE TABLE dead_letters (
    consumer   TEXT NOT NULL,
    journal_id UUID NOT NULL,
    id         TEXT NOT NULL,
    sequence   BIGINT NOT NULL CHECK (sequence >= 0),
    reason     TEXT NOT NULL,
    letter     TEXT NOT NULL,
    PRIMARY KEY (consumer, journal_id, sequence, id)
);
