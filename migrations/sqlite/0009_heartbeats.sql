-- Which servers live: each writes its row every few seconds, and removes it when it stops. The time is the database's own, in milliseconds.
CREATE TABLE heartbeats (
    journal_id BLOB PRIMARY KEY CHECK (length(journal_id) = 16),
    epoch      INTEGER NOT NULL CHECK (epoch >= 0),
    at         INTEGER NOT NULL,
    server     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
