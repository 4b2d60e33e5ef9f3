-- Journal records that the database refused for good, and those of the same drops after them, until they are applied. A drop's rows
-- are true up to the record before its first one here.
CREATE TABLE set_aside (
    journal_id BLOB NOT NULL CHECK (length(journal_id) = 16),
    drop_id    BLOB NOT NULL CHECK (length(drop_id) = 16),
    sequence   INTEGER NOT NULL,
    record     BLOB NOT NULL,
    reason     TEXT NOT NULL,
    PRIMARY KEY (journal_id, drop_id, sequence)
) STRICT, WITHOUT ROWID;
