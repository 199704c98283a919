-- A partitioned table cannot become a hypertable (TimescaleDB refuses it). So the way is a new table.

-- Puts the partitioned `reading` aside and an empty, plain one of the same columns, indexes and
-- checks in its place; views read the new one. Returns the old one's name, or NULL where it was
-- empty and is gone. Locks everybody out for milliseconds. Whoever calls it makes the new table a
-- hypertable next (ingest/timescale.py): until then nobody partitions it.
CREATE FUNCTION reading_set_aside() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    old oid := 'reading'::regclass;
    name text := 'reading_until_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD_HH24MISS');
    views text[];
    statement text;
    empty boolean;
BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = old) <> 'p' THEN
        RAISE EXCEPTION 'the table reading is not partitioned';
    END IF;
    LOCK TABLE reading IN ACCESS EXCLUSIVE MODE;
    SELECT array_agg(format('CREATE OR REPLACE VIEW %s AS %s', v.oid::regclass,
                            pg_get_viewdef(v.oid)))
    INTO views FROM pg_class v WHERE v.relkind = 'v' AND v.oid IN (
        SELECT r.ev_class FROM pg_rewrite r JOIN pg_depend d ON d.objid = r.oid
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
            AND d.refobjid = old);
    SELECT NOT EXISTS (SELECT FROM reading) INTO empty;
    EXECUTE format('ALTER TABLE reading RENAME TO %I', name);
    EXECUTE format('CREATE TABLE reading (LIKE %I INCLUDING ALL)', name);
    FOREACH statement IN ARRAY coalesce(views, '{}') LOOP
        EXECUTE statement;
    END LOOP;
    IF empty THEN
        EXECUTE format('DROP TABLE %I', name);
        RETURN NULL;
    END IF;
    RETURN name;
END $$;
