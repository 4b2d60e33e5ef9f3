-- Where a drop is shipped to (a table of countries and prices), and where an order is sent (a version of an address, the country, the price), as
-- JSON. NULL: nothing is shipped.
ALTER TABLE drops ADD COLUMN shipping TEXT;
ALTER TABLE orders ADD COLUMN delivery TEXT;
