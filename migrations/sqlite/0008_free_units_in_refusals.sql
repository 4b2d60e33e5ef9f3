-- A refusal for want of units says how many there were.
ALTER TABLE refusals ADD COLUMN available INTEGER CHECK ((available IS NOT NULL) = (refusal = 'not_enough_stock'));
-- The list of refusals grows by one, in place: what is stored does not change (https://www.sqlite.org/lang_altertable.html, section 7).
PRAGMA writable_schema = ON;
UPDATE sqlite_schema
SET sql = replace(sql, 'OR refusal = ''unknown_variant''', 'OR refusal = ''unknown_variant'' OR refusal = ''not_enough_stock''')
WHERE type = 'table' AND name = 'refusals';
PRAGMA writable_schema = RESET;
-- What time alone cures is not remembered any more: these keys are free.
DELETE FROM refusals WHERE refusal = 'drop_not_started';
