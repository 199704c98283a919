-- What people may set of a detector, and where they have set it. `sizao migrate` writes what the
-- detectors take, with its bounds, beside the catalogue.
CREATE TABLE detector_parameter (
    detector text NOT NULL REFERENCES detector ON UPDATE CASCADE ON DELETE CASCADE,
    name text NOT NULL,
    shipped double precision NOT NULL,
    low double precision NOT NULL,
    high double precision NOT NULL,
    whole boolean NOT NULL,
    unit text NOT NULL,
    reason text NOT NULL, -- for the bounds
    PRIMARY KEY (detector, name),
    CHECK (low <= high)
);

-- A value that holds for a scope, at all times or in a window of the day that may reach over
-- midnight. from_minute = to_minute is a whole day from there; days: bit 0 is Monday, of the day on
-- which the window begins. Minutes are local ones of an offset from UTC that stays with the row, so
-- that a replay judges as the first run did whatever the settings say by then.
CREATE TABLE rule_parameter (
    id integer NOT NULL CHECK (id > 0),
    rule text NOT NULL,
    parameter text NOT NULL,
    scope text NOT NULL CHECK (scope IN ('district', 'area', 'type', 'device')),
    scope_id integer NOT NULL, -- of area, device_type or device; 0 for the district
    value double precision NOT NULL,
    from_minute smallint NOT NULL DEFAULT 0 CHECK (from_minute BETWEEN 0 AND 1439),
    to_minute smallint NOT NULL DEFAULT 0 CHECK (to_minute BETWEEN 0 AND 1439),
    days smallint NOT NULL DEFAULT 127 CHECK (days BETWEEN 1 AND 127),
    offset_minutes smallint NOT NULL DEFAULT 0 CHECK (offset_minutes BETWEEN -840 AND 840),
    who text NOT NULL,
    why text NOT NULL CHECK (why <> ''),
    from_gen bigint NOT NULL,
    to_gen bigint,
    PRIMARY KEY (id, from_gen),
    CHECK ((scope = 'district') = (scope_id = 0))
);
CREATE UNIQUE INDEX rule_parameter_now
    ON rule_parameter (rule, parameter, scope, scope_id, from_minute, to_minute, days)
    WHERE to_gen IS NULL;

-- Whoever writes, nobody sets what no detector takes, or a limit that is never reached.
CREATE FUNCTION rule_parameter_taken() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM detector_parameter p
        WHERE p.detector = NEW.rule AND p.name = NEW.parameter
        AND (NEW.value BETWEEN p.low AND p.high OR NEW.value = p.shipped)
        AND (NOT p.whole OR NEW.value = trunc(NEW.value))
    ) THEN
        RAISE EXCEPTION 'rule parameter % % = %: no detector of this district takes it',
            NEW.rule, NEW.parameter, NEW.value USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER rule_parameter_taken BEFORE INSERT ON rule_parameter
    FOR EACH ROW EXECUTE FUNCTION rule_parameter_taken();
