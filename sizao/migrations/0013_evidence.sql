-- Raw readings around incidents, kept longer than the table `reading`.

-- Of which site and from when to when (event time, microseconds UTC as in `incident`); one row per
-- incident of sizao.incidents.v1 that is to be kept. Copied by arrival, up to `copied_us`.
CREATE TABLE evidence_window (
    incident text PRIMARY KEY,
    site integer NOT NULL,
    onset_us bigint NOT NULL,
    from_us bigint NOT NULL,
    until_us bigint NOT NULL CHECK (until_us >= from_us), -- while it is open: the longest that is kept
    closed_us bigint,                                     -- null while it is open
    version integer NOT NULL,                             -- newest transition heard
    copied_us bigint NOT NULL,
    rows bigint NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'copying' CHECK (state IN ('copying', 'done', 'full'))
);
CREATE INDEX evidence_window_copying ON evidence_window (copied_us) WHERE state = 'copying';

-- The key makes a second copy of the same rows no second row.
CREATE TABLE incident_reading (
    incident text NOT NULL REFERENCES evidence_window ON DELETE CASCADE,
    point integer NOT NULL,
    event timestamptz NOT NULL,
    received timestamptz NOT NULL,
    value real NOT NULL,
    flags smallint NOT NULL,
    PRIMARY KEY (incident, point, event, received, value)
);

-- The next transition to read of each partition, moved by compare-and-set with the windows.
CREATE TABLE evidence_offset (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    moved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
);

CREATE INDEX point_site ON point (site);
