-- A refused attempt leaves no row any more: its key is free (docs/adr/0029).
DROP TABLE refusals;
