-- The registry: who speaks, what it measures, where it is.
-- Every row keeps the generations between which it held (to_gen exclusive; null = still holds), so
-- that a replay of the log judges with the rows that held then.

CREATE TABLE generation (
    id bigint PRIMARY KEY,
    made_at timestamptz NOT NULL DEFAULT now(),
    cause text NOT NULL
);

-- Set once: a site stays in its partition for life, and so does all that is said about it.
CREATE TABLE district (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    partitions smallint NOT NULL CHECK (partitions BETWEEN 1 AND 1024)
);

CREATE TABLE area (
    id integer NOT NULL CHECK (id > 0),
    parent integer NOT NULL DEFAULT 0,
    level text NOT NULL CHECK (level IN
        ('district', 'street', 'community', 'grid', 'estate', 'site', 'floor', 'zone', 'unit')),
    code text NOT NULL,
    name_zh text NOT NULL,
    name_en text NOT NULL,
    lon double precision CHECK (lon BETWEEN -180 AND 180),
    lat double precision CHECK (lat BETWEEN -90 AND 90),
    partition smallint NOT NULL DEFAULT -1,
    from_gen bigint NOT NULL,
    to_gen bigint,
    PRIMARY KEY (id, from_gen),
    CHECK ((level = 'site') = (partition >= 0)),
    CHECK ((level = 'district') = (parent = 0))
);
CREATE UNIQUE INDEX area_code_now ON area (code) WHERE to_gen IS NULL;

CREATE TABLE carrier (
    id integer NOT NULL CHECK (id > 0),
    name text NOT NULL,
    site integer NOT NULL DEFAULT 0,
    from_gen bigint NOT NULL,
    to_gen bigint,
    PRIMARY KEY (id, from_gen)
);
CREATE UNIQUE INDEX carrier_name_now ON carrier (name) WHERE to_gen IS NULL;

CREATE TABLE device_type (
    id integer NOT NULL CHECK (id > 0),
    name text NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    document text NOT NULL,
    quantities smallint[] NOT NULL, -- codes of sizao/units.py: one point each per device
    from_gen bigint NOT NULL,
    to_gen bigint,
    PRIMARY KEY (id, from_gen)
);
CREATE UNIQUE INDEX device_type_name_now ON device_type (name) WHERE to_gen IS NULL;

-- A key (IMEI, EUI, serial, part address) is unique within its carrier's roster: a panel's
-- transmitter numbers its parts by itself.
CREATE TABLE device (
    id integer NOT NULL CHECK (id > 0),
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 128),
    carrier integer NOT NULL,
    device_type integer NOT NULL,
    area integer NOT NULL,
    site integer NOT NULL,
    heat_class smallint NOT NULL DEFAULT 0,
    mark text NOT NULL DEFAULT 'real' CHECK (mark IN ('real', 'test', 'canary')),
    state text NOT NULL DEFAULT 'in_service'
        CHECK (state IN ('planned', 'in_service', 'isolated', 'retired')),
    lon double precision CHECK (lon BETWEEN -180 AND 180),
    lat double precision CHECK (lat BETWEEN -90 AND 90),
    from_gen bigint NOT NULL,
    to_gen bigint,
    PRIMARY KEY (id, from_gen)
);
CREATE UNIQUE INDEX device_key_now ON device (carrier, key) WHERE to_gen IS NULL;

-- Dense ids from one sequence, bound to (device, quantity, site) for life, never reused.
CREATE TABLE point (
    id integer NOT NULL CHECK (id > 0),
    device integer NOT NULL,
    quantity smallint NOT NULL,
    site integer NOT NULL,
    partition smallint NOT NULL,
    moved_from integer,
    from_gen bigint NOT NULL,
    to_gen bigint,
    PRIMARY KEY (id, from_gen)
);
CREATE UNIQUE INDEX point_of_device_now ON point (device, quantity) WHERE to_gen IS NULL;
