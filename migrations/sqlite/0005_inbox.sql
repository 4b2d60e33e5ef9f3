-- What was told to people and waits for them. Written by the projection; people acknowledge it and read it. An entry is named by its
-- journal record. Journals' ids sort by age, so an inbox in the order of its key is in the order of telling.

-- What happened to the drops of creators, once each, however many follow. Where that are few, each of them has a line of the inbox as well
-- (fanned_out); where they are many, nobody has, until they acknowledge or read it.
CREATE TABLE drop_news (
    journal_id BLOB NOT NULL CHECK (length(journal_id) = 16),
    sequence   INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    at         INTEGER NOT NULL,
    drop_id    BLOB NOT NULL CHECK (length(drop_id) = 16),
    creator_id BLOB NOT NULL CHECK (length(creator_id) = 16),
    fanned_out INTEGER NOT NULL CHECK (fanned_out IN (0, 1)),
    PRIMARY KEY (journal_id, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX drop_news_for_many ON drop_news (creator_id, journal_id, sequence) WHERE fanned_out = 0;
CREATE INDEX drop_news_by_time ON drop_news (at);

CREATE TABLE inbox (
    user_id         BLOB NOT NULL CHECK (length(user_id) = 16),
    journal_id      BLOB NOT NULL CHECK (length(journal_id) = 16),
    sequence        INTEGER NOT NULL,
    kind            TEXT NOT NULL,
    at              INTEGER NOT NULL,
    drop_id         BLOB NOT NULL CHECK (length(drop_id) = 16),
    creator_id      BLOB CHECK (length(creator_id) = 16),
    order_id        BLOB CHECK (length(order_id) = 16),
    variant_id      BLOB CHECK (length(variant_id) = 16),
    quantity        INTEGER,
    reason          TEXT,
    acknowledged_at INTEGER,
    read_at         INTEGER,
    PRIMARY KEY (user_id, journal_id, sequence),
    CHECK ((creator_id IS NULL) <> (order_id IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX inbox_by_time ON inbox (at);
