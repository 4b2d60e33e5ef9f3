-- A list's filter by price is decided in its index: reading every product on the way, with its texts, took seconds among many.
DROP INDEX products_by_creator;
DROP INDEX products_by_creator_and_currency;
DROP INDEX products_by_status;
DROP INDEX products_by_currency;
CREATE INDEX products_by_creator ON products (creator_id, status, id, price_amount);
CREATE INDEX products_by_creator_and_currency ON products (creator_id, status, price_currency, id, price_amount);
CREATE INDEX products_by_status ON products (status, id, price_amount);
CREATE INDEX products_by_currency ON products (status, price_currency, id, price_amount);
