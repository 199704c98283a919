-- Roll-ups: what each point said in each minute of its event time.

-- A row is a part: a minute of up to 32 neighbouring points (block = point / 32), one item of each
-- array a point; parts of one point and minute add up. So a late reading is one row more, and the
-- index has an entry for 32 points: flat rows under (point, minute) cost ten times as much.
-- Written by COPY only. `first_us`, `last_us`: within the minute; `flags`: any of its readings had.
CREATE TABLE reading_minute_part (
    block integer NOT NULL,
    minute timestamptz NOT NULL,
    slot smallint[] NOT NULL, -- point % 32
    count integer[] NOT NULL,
    low real[] NOT NULL,
    high real[] NOT NULL,
    total double precision[] NOT NULL,
    first_us integer[] NOT NULL,
    first real[] NOT NULL,
    last_us integer[] NOT NULL,
    last real[] NOT NULL,
    flags smallint[] NOT NULL,
    origin smallint NOT NULL DEFAULT 0 -- else made from `reading`, for one partition of a topic
) PARTITION BY RANGE (minute);
CREATE INDEX reading_minute_part_block ON reading_minute_part (block, minute);

-- Makes the daily partitions that contain `instants`, where they are missing. Safe to race and to
-- repeat.
CREATE FUNCTION reading_minute_cover(instants timestamptz[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    instant timestamptz;
    first timestamptz;
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(5317283);
    FOREACH instant IN ARRAY instants LOOP
        first := date_trunc('day', instant, 'UTC');
        name := 'reading_minute_' || to_char(first AT TIME ZONE 'UTC', 'YYYYMMDD');
        IF to_regclass(name) IS NULL THEN
            EXECUTE format('CREATE TABLE %I (LIKE reading_minute_part INCLUDING ALL)'
                           ' WITH (autovacuum_vacuum_insert_threshold = -1)', name);
            EXECUTE format('ALTER TABLE reading_minute_part ATTACH PARTITION %I'
                           ' FOR VALUES FROM (%L) TO (%L)',
                           name, first, first + interval '1 day');
        END IF;
    END LOOP;
END $$;

-- Drops the days that ended before `instant`; returns how many.
CREATE FUNCTION reading_minute_drop(instant timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    name text;
    dropped integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(5317283);
    FOR name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'reading_minute_part'::regclass
            AND c.relname <= 'reading_minute_' || to_char(
                (instant - interval '1 day') AT TIME ZONE 'UTC', 'YYYYMMDD')
            AND c.relname < 'reading_minute_' || to_char(instant AT TIME ZONE 'UTC', 'YYYYMMDD')
    LOOP
        EXECUTE format('DROP TABLE %I', name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

-- How far the roll-ups have come in each partition of the log; moved by compare-and-set in the
-- transaction that stores the parts. After a kill, reading begins at `held`; of frames before
-- `settled` only events from `closed_us` on are not in the table yet (ingest/rollup.py).
CREATE TABLE rollup_offset (
    topic text NOT NULL,
    partition integer NOT NULL,
    held bigint NOT NULL CHECK (held >= 0),
    settled bigint NOT NULL CHECK (settled >= held),
    closed_us bigint NOT NULL DEFAULT 0, -- minutes before it are closed
    moved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
);

-- Minutes before `until` are complete, but for readings that come late: those of a minute that is
-- not closed yet may stand in the table in part.
CREATE VIEW reading_minute_closed AS
SELECT partition, to_timestamp(min(closed_us) / 1000000) AS until
FROM rollup_offset GROUP BY partition;

-- The way to ask: minutes of some points from one time to another, by the index.
CREATE FUNCTION reading_minutes(points integer[], from_time timestamptz, to_time timestamptz)
RETURNS TABLE (point integer, minute timestamptz, count bigint, min real, max real, mean double precision,
               first real, last real, flags smallint, closed boolean)
LANGUAGE sql STABLE AS $$
    SELECT q.point, b.minute, sum(b.count[i.at]), min(b.low[i.at]), max(b.high[i.at]),
        sum(b.total[i.at]) / sum(b.count[i.at]),
        (array_agg(b.first[i.at] ORDER BY b.first_us[i.at], b.first[i.at]))[1],
        (array_agg(b.last[i.at] ORDER BY b.last_us[i.at] DESC, b.last[i.at] DESC))[1],
        bit_or(b.flags[i.at]),
        b.minute < coalesce(
            (SELECT c.until FROM reading_minute_closed c
                WHERE c.partition = (SELECT p.partition FROM point p WHERE p.id = q.point LIMIT 1)),
            (SELECT min(c.until) FROM reading_minute_closed c))
    FROM unnest(points) q (point)
    JOIN reading_minute_part b ON b.block = q.point / 32
        AND b.minute >= date_trunc('minute', from_time) AND b.minute < to_time
    CROSS JOIN LATERAL (SELECT array_position(b.slot, (q.point % 32)::smallint) AS at) i
    WHERE i.at IS NOT NULL
    GROUP BY q.point, b.minute
    ORDER BY q.point, b.minute
$$;

-- All points. Always name a span of `minute`, and not a point: no index leads there from a point.
CREATE VIEW reading_minute AS
SELECT b.block * 32 + u.slot AS point, b.minute, sum(u.count) AS count, min(u.low) AS min,
    max(u.high) AS max, sum(u.total) / sum(u.count) AS mean,
    (array_agg(u.first ORDER BY u.first_us, u.first))[1] AS first,
    (array_agg(u.last ORDER BY u.last_us DESC, u.last DESC))[1] AS last,
    bit_or(u.flags) AS flags
FROM reading_minute_part b
CROSS JOIN LATERAL unnest(b.slot, b.count, b.low, b.high, b.total, b.first_us, b.first, b.last_us,
    b.last, b.flags) u (slot, count, low, high, total, first_us, first, last_us, last, flags)
GROUP BY 1, 2;
