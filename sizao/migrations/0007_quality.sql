-- Data quality: what each device should have said in a day, what it said, and what was wrong.

-- One row per device in service and local day (archive.quality.utc_offset_min). Every column adds up
-- from what a flush has counted since the last one; nothing is ever counted twice (quality_offset).
-- Rows of devices that said nothing come at the end of their day. No index on what changes, and room
-- on each page, so that an update stays on its page. Old days are deleted by day.
CREATE TABLE device_day (
    day date NOT NULL,
    device integer NOT NULL,
    interval_s integer NOT NULL,      -- its type speaks at least so often; 0: the type is broken
    seconds integer NOT NULL,         -- in service while a bridge listened: expected = seconds / interval_s
    received integer NOT NULL,        -- its words: distinct (device, event time) of a frame
    missed integer NOT NULL,          -- whole intervals of gaps, each gap counted once
    late integer NOT NULL,            -- of `received`: over a minute old when they came
    redelivered integer NOT NULL,     -- of `received`: the broker had sent them before
    corrected integer NOT NULL,       -- of `received`: its clock was not believed
    stuck integer NOT NULL,           -- measured values that have not moved for days
    rejects integer NOT NULL,         -- refused, for whatever reason
    out_of_range integer NOT NULL,    -- of `rejects`: beyond the type's range, or "the sensor is broken"
    PRIMARY KEY (day, device)
) WITH (fillfactor = 75);

-- `rejects` by reason (ingest/device_types/reasons.py); only devices that have any.
CREATE TABLE device_day_reject (
    day date NOT NULL,
    device integer NOT NULL,
    reason text NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (day, device, reason)
);

-- The next record to read of each partition, moved by compare-and-set in the transaction that adds
-- the counts, with what the fold must not forget (ingest/quality_keep.py): since when each device
-- is silent, each value stands still. `judged`: the last day whose devices were judged for signals.
CREATE TABLE quality_offset (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    state bytea,
    judged date,
    moved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
);
ALTER TABLE quality_offset ALTER COLUMN state SET STORAGE EXTERNAL; -- it is compressed already

-- Devices of which a signal says that they stay bad: since which day.
CREATE TABLE quality_fault (
    device integer PRIMARY KEY,
    onset date NOT NULL
);

-- From which share on a day is bad: one row, written by `sizao archive` from ingest/quality_fault.py.
CREATE TABLE quality_params (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    judged_s_min integer NOT NULL,
    missed_min integer NOT NULL,
    missed_share_min double precision NOT NULL,
    rejects_share_min double precision NOT NULL,
    out_of_range_share_min double precision NOT NULL,
    corrected_share_min double precision NOT NULL
);

-- Why a day is bad, and how bad: score 1 is a device that is silent, 0 a good day. Ask for `bad`
-- rather than for `why`: of 400,000 devices, the arrays alone take most of a second.
CREATE VIEW device_day_judged AS
SELECT b.*, b.silent OR b.gaps OR b.refused OR b.beyond OR b.clock OR b.stuck > 0 AND b.judged AS bad,
    array_remove(ARRAY[
        CASE WHEN b.silent THEN 'silent' END, CASE WHEN b.gaps THEN 'gaps' END,
        CASE WHEN b.refused THEN 'rejects' END, CASE WHEN b.beyond THEN 'out_of_range' END,
        CASE WHEN b.clock THEN 'clock' END,
        CASE WHEN b.stuck > 0 AND b.judged THEN 'stuck' END], NULL) AS why,
    least(1, greatest(
        CASE WHEN b.silent THEN 1 WHEN b.stuck > 0 AND b.judged THEN 0.5 ELSE 0 END,
        CASE WHEN b.gaps THEN b.missed_share ELSE 0 END,
        CASE WHEN b.refused THEN b.rejects_share ELSE 0 END,
        CASE WHEN b.beyond THEN b.out_of_range_share ELSE 0 END,
        CASE WHEN b.clock THEN b.corrected_share ELSE 0 END))::real AS score
FROM (
    SELECT s.*,
        s.judged AND s.received = 0 AND s.missed > 0 AS silent,
        s.judged AND s.received > 0 AND s.missed >= p.missed_min
            AND s.missed_share >= p.missed_share_min AS gaps,
        s.judged AND s.rejects > s.out_of_range AND s.rejects_share >= p.rejects_share_min
            AS refused,
        s.judged AND s.out_of_range > 0 AND s.out_of_range_share >= p.out_of_range_share_min
            AS beyond,
        s.judged AND s.corrected > 0 AND s.corrected_share >= p.corrected_share_min AS clock
    FROM (
        SELECT d.*, d.seconds >= q.judged_s_min AS judged,
            d.seconds::float8 / nullif(d.interval_s, 0) AS expected,
            d.missed / greatest(d.seconds::float8 / nullif(d.interval_s, 0), 1) AS missed_share,
            (d.rejects - d.out_of_range)::float8 / greatest(d.received::bigint + d.rejects, 1)
                AS rejects_share,
            d.out_of_range::float8 / greatest(d.received::bigint + d.rejects, 1)
                AS out_of_range_share,
            d.corrected::float8 / greatest(d.received, 1) AS corrected_share
        FROM device_day d CROSS JOIN quality_params q
    ) s CROSS JOIN quality_params p
) b;

-- The same for people, with names as they are now. Always name a day or a few: each has a row for
-- every device. Worst first: WHERE bad ORDER BY score DESC.
CREATE VIEW device_quality AS
SELECT j.day, n.key AS device, c.name AS carrier, t.name AS device_type, s.code AS site,
       s.name_zh AS site_zh, s.name_en AS site_en, n.state, j.bad, j.why, j.score, j.received,
       round(j.expected::numeric, 1)::float8 AS expected, j.missed, j.rejects, j.out_of_range,
       j.corrected, j.stuck, j.late, j.redelivered, r.by_reason, j.seconds, j.interval_s,
       j.device AS device_id
FROM device_day_judged j
JOIN LATERAL (SELECT * FROM device d WHERE d.id = j.device ORDER BY d.from_gen DESC LIMIT 1) n ON true
JOIN LATERAL (SELECT * FROM carrier d WHERE d.id = n.carrier ORDER BY d.from_gen DESC LIMIT 1) c
    ON true
JOIN LATERAL (SELECT * FROM device_type d WHERE d.id = n.device_type ORDER BY d.from_gen DESC LIMIT 1) t
    ON true
JOIN LATERAL (SELECT * FROM area d WHERE d.id = n.site ORDER BY d.from_gen DESC LIMIT 1) s ON true
LEFT JOIN LATERAL (SELECT jsonb_object_agg(e.reason, e.count) AS by_reason FROM device_day_reject e
    WHERE e.day = j.day AND e.device = j.device) r ON true;
