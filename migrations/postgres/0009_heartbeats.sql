-- Which servers live: each writes its row every few seconds, and removes it when it stops. The time is the database's own, in milliseconds.
CREATE TABLE heartbeats (
    journal_id UUID PRIMARY KEY,
    epoch      BIGINT NOT NULL CHECK (epoch >= 0),
    at         BIGINT NOT NULL,
    server     TEXT NOT NULL
);
