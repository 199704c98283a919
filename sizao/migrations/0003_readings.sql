-- Raw readings, and how far the archive has come in each partition of the log.

-- Written by COPY only. Partitioned and indexed by arrival, because devices' clocks lie: a row of
-- 1970 or 2099 lands among its neighbours. No B-tree: on (point, event) it would cost twenty times
-- the row itself (6.5 us against 0.3). `flags`: see Flag in sizao/frame.py.
CREATE TABLE reading (
    received timestamptz NOT NULL,
    event timestamptz NOT NULL,
    point integer NOT NULL,
    value real NOT NULL,
    flags smallint NOT NULL
) PARTITION BY RANGE (received);
CREATE INDEX reading_received ON reading USING brin (received) WITH (autosummarize = on);

-- Makes the hourly partitions that contain `instants`, where they are missing. Safe to race and to
-- repeat. ATTACH instead of PARTITION OF: the latter locks out every reader of the table.
CREATE FUNCTION reading_cover(instants timestamptz[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    instant timestamptz;
    first timestamptz;
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(5317282);
    FOREACH instant IN ARRAY instants LOOP
        first := date_trunc('hour', instant, 'UTC');
        name := 'reading_' || to_char(first AT TIME ZONE 'UTC', 'YYYYMMDD_HH24');
        IF to_regclass(name) IS NULL THEN
            EXECUTE format('CREATE TABLE %I (LIKE reading INCLUDING ALL)', name);
            EXECUTE format('ALTER TABLE reading ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                           name, first, first + interval '1 hour');
        END IF;
    END LOOP;
END $$;

-- The next record to read of each partition, moved by compare-and-set in the transaction that
-- stores the rows: so every row is stored exactly once, whoever else runs.
CREATE TABLE archive_offset (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    -- The frame just before next_offset ('' where that record was none): if the log holds another
    -- one there, it is not the log that was read.
    writer text NOT NULL DEFAULT '',
    sequence bigint NOT NULL DEFAULT 0,
    received_us bigint NOT NULL DEFAULT 0,  -- newest arrival stored
    writers jsonb NOT NULL DEFAULT '{}',    -- writer -> newest sequence stored
    -- While a log that came back shorter is read again: {"until_us", "writers"} of what is stored.
    repair jsonb,
    moved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
);

-- The quantities of sizao/units.py, for people who write SQL. A test keeps the two equal.
CREATE TABLE quantity (
    code smallint PRIMARY KEY,
    name text NOT NULL UNIQUE,
    unit text NOT NULL
);
INSERT INTO quantity (code, name, unit) VALUES
    (1, 'temperature_c', 'degC'),
    (2, 'smoke_od_per_m', '1/m'),
    (3, 'co_ppm', 'ppm'),
    (4, 'humidity_pct', '%'),
    (5, 'co2_ppm', 'ppm'),
    (6, 'gas_lel_pct', '%LEL'),
    (7, 'residual_current_ma', 'mA'),
    (8, 'cable_temperature_c', 'degC'),
    (9, 'pressure_kpa', 'kPa'),
    (10, 'level_m', 'm'),
    (11, 'surface_temperature_c', 'degC'),
    (12, 'battery_pct', '%'),
    (13, 'heard', '1'),
    (14, 'fault_state', 'state'),
    (64, 'fire_state', 'state'),
    (65, 'gas_state', 'state'),
    (66, 'co_state', 'state'),
    (67, 'tamper_state', 'state'),
    (68, 'call_point_state', 'state');

-- What each point is, by the newest that is known of its device, carrier and site.
CREATE VIEW point_named AS
SELECT p.id AS point, d.key AS device, c.name AS carrier, q.name AS quantity, q.unit,
       s.code AS site, s.name_zh AS site_zh, s.name_en AS site_en
FROM point p
JOIN quantity q ON q.code = p.quantity
JOIN device d ON d.id = p.device
    AND d.from_gen = (SELECT max(n.from_gen) FROM device n WHERE n.id = d.id)
JOIN carrier c ON c.id = d.carrier
    AND c.from_gen = (SELECT max(n.from_gen) FROM carrier n WHERE n.id = c.id)
JOIN area s ON s.id = p.site
    AND s.from_gen = (SELECT max(n.from_gen) FROM area n WHERE n.id = s.id);

-- Always name a span of `received`: without one, every partition is read.
CREATE VIEW reading_named AS
SELECT r.received, r.event, n.device, n.carrier, n.quantity, r.value, n.unit, r.flags,
       n.site, n.site_zh, n.site_en, r.point
FROM reading r JOIN point_named n USING (point);
