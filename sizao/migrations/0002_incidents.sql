-- Signals, incidents, who was told, and every attempt to tell them.
--
-- Times are bigint microseconds UTC, as on the wire: ids are hashes over exact microseconds, and a
-- device's clock of 1970 or 20000 must neither fail an INSERT nor come back rounded. For people:
-- to_timestamp(at_us / 1e6).
-- Everything here is written through alerting/store.py, in one transaction per batch of records.

-- Next record to read of each topic and partition. Moved by compare-and-set as the first statement
-- of the batch's transaction: the row lock makes two alert processes on one partition take turns,
-- and the second finds the offset moved and stores nothing.
CREATE TABLE alert_offset (
    topic text NOT NULL,
    partition smallint NOT NULL CHECK (partition >= 0),
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    -- Arrival of the newest stored record: where to read on when the log came back shorter.
    arrived_ms bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, partition)
);

-- At most one open incident per site, kind and nature; natures are never merged or converted.
CREATE TABLE incident (
    id text PRIMARY KEY CHECK (length(id) = 32), -- hash of its first signal, or of the action that opened it
    site integer NOT NULL CHECK (site >= 0), -- 0: nobody knows the place
    kind text NOT NULL CHECK (kind IN ('fire', 'gas', 'co', 'unread', 'system')),
    nature text NOT NULL CHECK (nature IN ('real', 'drill', 'test', 'canary')),
    tier text NOT NULL CHECK (tier IN ('early', 'alarm', 'urgent')),
    state text NOT NULL CHECK (state IN ('open', 'acknowledged', 'closed')),
    verdict text CHECK (verdict IN ('fire', 'false_alarm', 'test', 'fault')),
    verdict_cause text NOT NULL DEFAULT '' CHECK (length(verdict_cause) <= 500),
    verdict_devices integer[] NOT NULL DEFAULT '{}', -- of a false alarm: which devices
    version integer NOT NULL CHECK (version >= 1), -- grows by one with each transition
    opened_us bigint NOT NULL,
    onset_us bigint NOT NULL, -- event time of the first signal
    last_us bigint NOT NULL, -- newest event time heard
    changed_us bigint NOT NULL, -- of the last transition
    closed_us bigint,
    late boolean NOT NULL,
    deciding text NOT NULL, -- record id of the signal that set the tier
    members integer NOT NULL CHECK (members >= 0),
    -- Who was last in alarm, and when: a second device soon after makes a fire urgent.
    alarm_member text NOT NULL DEFAULT '',
    alarm_us bigint NOT NULL DEFAULT 0,
    CHECK ((state = 'closed') = (closed_us IS NOT NULL))
);
CREATE UNIQUE INDEX incident_open_once ON incident (site, kind, nature) WHERE closed_us IS NULL;
CREATE INDEX incident_closed_last ON incident (site, kind, nature, closed_us DESC)
    WHERE closed_us IS NOT NULL;

-- What alarms in an incident: a device, or a subject without one (a carrier, a stage).
CREATE TABLE incident_device (
    incident text NOT NULL REFERENCES incident,
    member text NOT NULL, -- 'device:17', 'carrier:gw-3', ...
    device integer NOT NULL CHECK (device >= 0),
    tier text NOT NULL CHECK (tier IN ('early', 'alarm', 'urgent')),
    onset text NOT NULL, -- its newest onset
    joined_us bigint NOT NULL, -- event time
    last_us bigint NOT NULL,
    cleared_us bigint, -- the newest onset is over
    PRIMARY KEY (incident, member)
);

-- Every signal ever read, those of the slow kinds too. The row is the memory of what was seen: a
-- redelivered record finds its id here and changes nothing.
CREATE TABLE signal (
    id text PRIMARY KEY,
    onset text NOT NULL,
    rule text NOT NULL,
    rule_version integer NOT NULL,
    kind text NOT NULL,
    tier text NOT NULL CHECK (tier IN ('early', 'alarm', 'urgent')),
    phase text NOT NULL CHECK (phase IN ('raise', 'refresh', 'clear')),
    subject_type text NOT NULL,
    subject text NOT NULL,
    site integer NOT NULL CHECK (site >= 0),
    device integer NOT NULL CHECK (device >= 0),
    onset_us bigint NOT NULL,
    event_us bigint NOT NULL,
    received_us bigint NOT NULL,
    generation bigint NOT NULL,
    late boolean NOT NULL,
    self_test boolean NOT NULL,
    evidence jsonb NOT NULL,
    nature text NOT NULL CHECK (nature IN ('real', 'drill', 'test', 'canary')),
    stored_us bigint NOT NULL,
    incident text REFERENCES incident, -- null: a slow kind, or a clear with nothing open
    became text NOT NULL -- what it did: opened, joined, raised, same, after_close...
);
CREATE INDEX signal_of_onset ON signal (onset) WHERE incident IS NOT NULL;
CREATE INDEX signal_of_incident ON signal (incident, event_us) WHERE incident IS NOT NULL;

-- The time line. One cause makes at most one transition of an incident (the id is their hash); a
-- signal or an action makes at most one anywhere. Deadlines may fall due together.
CREATE TABLE transition (
    id text PRIMARY KEY CHECK (length(id) = 32),
    incident text NOT NULL REFERENCES incident,
    version integer NOT NULL, -- the incident's, after it
    cause text NOT NULL, -- signal record id, action id, or deadline and due time
    cause_kind text NOT NULL CHECK (cause_kind IN ('signal', 'action', 'deadline')),
    what text NOT NULL CHECK (what IN
        ('opened', 'joined', 'raised', 'renewed', 'acknowledged', 'verdict', 'closed')),
    at_us bigint NOT NULL, -- when it was decided
    event_us bigint NOT NULL, -- when what caused it happened
    actor text NOT NULL,
    late boolean NOT NULL,
    before jsonb NOT NULL, -- state, tier, verdict
    after jsonb NOT NULL,
    payload jsonb NOT NULL,
    UNIQUE (incident, version)
);
CREATE UNIQUE INDEX transition_cause ON transition (cause) WHERE cause_kind <> 'deadline';

-- Who can be told. Written by `sizao responders import`, all rows of a file or none.
CREATE TABLE responder (
    name text PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 64),
    area text NOT NULL, -- code of the node of the tree whose incidents are theirs
    kinds text[] NOT NULL CHECK (cardinality(kinds) > 0),
    natures text[] NOT NULL CHECK (cardinality(natures) > 0),
    min_tier text NOT NULL CHECK (min_tier IN ('early', 'alarm', 'urgent')),
    language text NOT NULL CHECK (language IN ('zh', 'en')),
    channels jsonb NOT NULL -- names files of secrets, never secrets
);

-- Grows with every import, so that alert re-reads the responders only when there is something new.
CREATE TABLE responder_version (
    single boolean PRIMARY KEY DEFAULT true CHECK (single), -- one row
    version bigint NOT NULL
);
INSERT INTO responder_version (version) VALUES (0);

-- Pages: one row per transition, responder, channel and step, in the transition's transaction. The
-- row is its own outbox: `due` until it has an end. The body is made once, so that every repeat
-- carries the same words under the same id.
CREATE TABLE message (
    id text PRIMARY KEY CHECK (length(id) = 32),
    seq bigint GENERATED ALWAYS AS IDENTITY,
    transition text REFERENCES transition, -- null: a test page asked for at the command line
    incident text REFERENCES incident,
    responder text NOT NULL,
    channel text NOT NULL,
    step smallint NOT NULL DEFAULT 0,
    nature text NOT NULL CHECK (nature IN ('real', 'drill', 'test', 'canary')),
    urgency smallint NOT NULL CHECK (urgency BETWEEN 0 AND 9), -- higher goes first
    why text NOT NULL, -- reason of the policy
    body text NOT NULL CHECK (octet_length(body) <= 20000),
    made_us bigint NOT NULL,
    signal_us bigint NOT NULL DEFAULT 0, -- arrival of the signal in the log; 0 where there is none
    state text NOT NULL DEFAULT 'due'
        CHECK (state IN ('due', 'accepted', 'refused', 'expired', 'cancelled')),
    reason text NOT NULL DEFAULT '', -- why it stands so: ladder, retry_after, gone, out_of_time...
    attempts smallint NOT NULL DEFAULT 0,
    first_us bigint, -- first attempt; the ladder ends an hour after it
    next_us bigint, -- next attempt
    -- A killed process' claim lapses; only the holder of a claim may record its end.
    lease_holder text,
    lease_until_us bigint,
    ended_us bigint,
    CHECK (transition IS NOT NULL OR nature = 'test'),
    CHECK ((state = 'due') = (next_us IS NOT NULL)),
    CHECK ((state = 'due') = (ended_us IS NULL)),
    CHECK ((lease_holder IS NULL) = (lease_until_us IS NULL))
);
-- A claim walks from one responder's channel to the next, and finds the head of each, without
-- reading what waits behind it: a storm leaves tens of thousands due.
CREATE INDEX message_lane ON message (responder, channel, urgency, next_us, seq)
    WHERE state = 'due';
CREATE INDEX message_first ON message (responder, channel, urgency DESC, seq)
    WHERE state = 'due' AND attempts = 0;
CREATE INDEX message_repeat ON message (responder, channel, urgency, next_us, seq)
    WHERE state = 'due' AND (attempts > 0 OR urgency < 3);
CREATE INDEX message_leased ON message (responder, channel) WHERE lease_until_us IS NOT NULL;
CREATE INDEX message_of_incident ON message (incident, seq);

-- The ledger. A row is written before the bytes leave; without an end it was cut off by a kill, and
-- nobody knows whether it arrived.
CREATE TABLE message_attempt (
    message text NOT NULL REFERENCES message,
    attempt smallint NOT NULL CHECK (attempt >= 1),
    started_us bigint NOT NULL,
    ended_us bigint,
    outcome text CHECK (outcome IN
        ('accepted', 'refused', 'gone', 'throttled', 'redirected', 'server_error', 'unreachable',
         'unknown', 'no_address')),
    status smallint,
    detail text NOT NULL DEFAULT '' CHECK (length(detail) <= 300),
    PRIMARY KEY (message, attempt),
    CHECK ((ended_us IS NULL) = (outcome IS NULL))
);

-- Transitions of real incidents on their way to sizao.incidents.v1. Written with the transition
-- under the incident's row lock, so `seq` rises with its versions; deleted once Kafka has them.
CREATE TABLE outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transition text NOT NULL UNIQUE REFERENCES transition,
    incident text NOT NULL,
    at_us bigint NOT NULL,
    value text NOT NULL
);
