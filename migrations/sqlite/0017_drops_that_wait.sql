-- Drops that wait for their start, by when that is; and what a creator has scheduled or live. Both are few beside all that ever were.
CREATE INDEX drops_waiting ON drops (starts_at, id) WHERE status = 'scheduled';
CREATE INDEX drops_open_by_creator ON drops (creator_id) WHERE NOT settled;
