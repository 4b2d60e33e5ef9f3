-- A refusal for want of units says how many there were.
ALTER TABLE refusals
    DROP CONSTRAINT refusals_refusal_check,
    ADD CONSTRAINT refusals_refusal_check CHECK (refusal IN ('drop_not_started', 'drop_ended', 'drop_cancelled', 'sold_out',
                                                             'limit_exceeded', 'unknown_variant', 'not_enough_stock')),
    ADD COLUMN available BIGINT,
    ADD CONSTRAINT refusals_available_check CHECK ((available IS NOT NULL) = (refusal = 'not_enough_stock'));
-- What time alone cures is not remembered any more: these keys are free.
DELETE FROM refusals WHERE refusal = 'drop_not_started';
