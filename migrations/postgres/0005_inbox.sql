-- What was told to people and waits for them. Written by the projection; people acknowledge it and read it. An entry is named by its
-- journal record. Journals' ids sort by age, so an inbox in the order of its key is in the order of telling.

-- What happened to the drops of creators, once each, however many follow. Where that are few, each of them has a line of the inbox as well
-- (fanned_out); where they are many, nobody has, until they acknowledge or read it.
CREATE TABLE drop_news (
    journal_id UUID NOT NULL,
    sequence   BIGINT NOT NULL,
    kind       TEXT NOT NULL,
    at         BIGINT NOT NULL,
    drop_id    UUID NOT NULL,
    creator_id UUID NOT NULL,
    fanned_out BIGINT NOT NULL CHECK (fanned_out IN (0, 1)),
    PRIMARY KEY (journal_id, sequence)
);
CREATE INDEX drop_news_for_many ON drop_news (creator_id, journal_id, sequence) WHERE fanned_out = 0;
CREATE INDEX drop_news_by_time ON drop_news (at);

CREATE TABLE inbox (
    user_id         UUID NOT NULL,
    journal_id      UUID NOT NULL,
    sequence        BIGINT NOT NULL,
    kind            TEXT NOT NULL,
    at              BIGINT NOT NULL,
    drop_id         UUID NOT NULL,
    creator_id      UUID,
    order_id        UUID,
    variant_id      UUID,
    quantity        BIGINT,
    reason          TEXT,
    acknowledged_at BIGINT,
    read_at         BIGINT,
    PRIMARY KEY (user_id, journal_id, sequence),
    CHECK ((creator_id IS NULL) <> (order_id IS NULL))
);
CREATE INDEX inbox_by_time ON inbox (at);
