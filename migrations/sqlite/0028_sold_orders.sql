-- How far a sold order is on its way; written by the seller's requests, never by the projection.
ALTER TABLE orders ADD COLUMN fulfilment TEXT NOT NULL DEFAULT 'unfulfilled' CHECK (fulfilment = 'unfulfilled' OR fulfilment = 'packed' OR fulfilment = 'shipped' OR fulfilment = 'delivered');
-- What a seller lists: orders of a drop in one state, newest first.
CREATE INDEX orders_by_status ON orders (drop_tag, status, fulfilment, id);
