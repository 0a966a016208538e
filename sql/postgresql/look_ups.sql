-- For the connection of a server's look-ups, which runs one statement only: by its indexes and with one plan, also where the tables were
-- small or never analysed when it was prepared. It has a name of its own among the server's connections.
SET application_name = 'authapi look-ups';
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
