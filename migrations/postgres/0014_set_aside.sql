-- Journal records that the database refused for good, and those of the same drops after them, until they are applied. A drop's rows
-- are true up to the record before its first one here.
CREATE TABLE set_aside (
    journal_id UUID NOT NULL,
    drop_id    UUID NOT NULL,
    sequence   BIGINT NOT NULL,
    record     BYTEA NOT NULL,
    reason     TEXT NOT NULL,
    PRIMARY KEY (journal_id, drop_id, sequence)
);
