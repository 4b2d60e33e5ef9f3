-- Which attempt to pay its order an event is about: an event about another attempt than the pending one may be about a payment that has to go back.
ALTER TABLE webhooks ADD COLUMN attempt BIGINT;
