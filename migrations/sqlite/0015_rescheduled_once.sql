-- A drop that is rescheduled takes back what was told of its earlier times.
CREATE INDEX drop_news_rescheduled ON drop_news (drop_id) WHERE kind = 'drop_rescheduled';
