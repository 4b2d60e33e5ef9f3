-- How far consumers of a journal have come that keep their offsets in files: a copy, for backups and for a data directory without them. Of
-- an opening of that journal: an earlier one does not overwrite a later one's.
CREATE TABLE consumer_offsets (
    consumer   TEXT NOT NULL,
    journal_id UUID NOT NULL,
    epoch      BIGINT NOT NULL CHECK (epoch >= 0),
    sequence   BIGINT NOT NULL CHECK (sequence >= 0),
    PRIMARY KEY (consumer, journal_id)
);
