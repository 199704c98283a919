-- What the table of raw readings refuses, and how a reading is found that was delivered again.

-- NaN would be the maximum of a column, and is greater than infinity to PostgreSQL. 0.03 us a row.
-- What is stored already came through checks of our own.
ALTER TABLE reading ADD CONSTRAINT reading_value_finite
    CHECK (value > '-Infinity' AND value < 'Infinity') NOT VALID;

-- Rows whose event lay a minute or more before their arrival (Flag.LATE): few, and their first
-- delivery may lie anywhere (ingest/redelivered.py). Costs the other rows 0.02 us.
CREATE INDEX reading_late ON reading (point, event) WHERE flags & 1 <> 0;

-- Readings that the table has refused, each alone: numbers as they came, so that nothing is refused
-- here. Bounded by a batch's limit and by age (ingest/retention.py).
CREATE TABLE reading_refused (
    refused_at timestamptz NOT NULL DEFAULT now(),
    received_us bigint NOT NULL,
    event_us bigint NOT NULL,
    point bigint NOT NULL,
    value double precision NOT NULL,
    flags integer NOT NULL,
    why text NOT NULL
);
CREATE INDEX reading_refused_at ON reading_refused (refused_at);

-- As before, and: the comment says when a partition was made. Retention goes by it where the name
-- is no help, because a bridge's clock stood in 1970 or 2099. A table that is no longer partitioned
-- by us (TimescaleDB) needs no partitions.
-- Nothing here is updated, and an hour is dropped whole: to vacuum it again and again while it grows
-- (every fifth of its rows, by default) only reads it all.
CREATE OR REPLACE FUNCTION reading_cover(instants timestamptz[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    instant timestamptz;
    first timestamptz;
    name text;
BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = 'reading'::regclass) <> 'p' THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(5317282);
    FOREACH instant IN ARRAY instants LOOP
        first := date_trunc('hour', instant, 'UTC');
        name := 'reading_' || to_char(first AT TIME ZONE 'UTC', 'YYYYMMDD_HH24');
        IF to_regclass(name) IS NULL THEN
            EXECUTE format('CREATE TABLE %I (LIKE reading INCLUDING ALL)'
                           ' WITH (autovacuum_vacuum_insert_threshold = -1)', name);
            EXECUTE format('COMMENT ON TABLE %I IS %L', name,
                           'made ' || extract(epoch FROM now())::bigint);
            EXECUTE format('ALTER TABLE reading ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                           name, first, first + interval '1 hour');
        END IF;
    END LOOP;
END $$;
