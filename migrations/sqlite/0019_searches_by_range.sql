-- Few products of a price, and few drops of a time, are found by these, however many there are besides.
CREATE INDEX products_by_price ON products (status, price_amount, id);
CREATE INDEX products_by_currency_and_price ON products (status, price_currency, price_amount, id);
CREATE INDEX drops_by_start ON drops (starts_at, id);
