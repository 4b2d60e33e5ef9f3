-- The newest order, by its id, of what a journal has projected. A start makes no ids, and so no order numbers, up to it.
ALTER TABLE watermarks ADD COLUMN newest_order BLOB CHECK (newest_order IS NULL OR length(newest_order) = 16);
