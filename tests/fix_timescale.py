"""Stand-ins for TimescaleDB's functions: names, arguments and types as in the real one, in a schema
as the extension would put them. They write down what was called. What takes "any" there takes an
interval here: PostgreSQL gives that type to functions in C alone.
"""

SCHEMA = "tsdb"
_LATER = {
    # The table access method of 2.18 to 2.21 had an argument of its own, which is gone since.
    "2.18.0": ("", ", hypercore_use_access_method boolean = NULL"),
    "2.28.3": (", partition_origin timestamptz = NULL", ""),
}
_STAND_INS = """
CREATE SCHEMA tsdb; CREATE SCHEMA _timescaledb_internal; CREATE SCHEMA timescaledb_information;
CREATE TABLE tsdb.called (id serial, call text);
CREATE TABLE timescaledb_information.hypertables (
    hypertable_schema name, hypertable_name name, compression_enabled boolean);
CREATE TABLE timescaledb_information.jobs (proc_name name, hypertable_name name, config jsonb);
CREATE TYPE _timescaledb_internal.dimension_info AS (column_name name, span interval);

CREATE FUNCTION tsdb.by_range(column_name name, partition_interval anyelement = NULL::bigint,
    partition_func regproc = NULL{by_range}) RETURNS _timescaledb_internal.dimension_info
LANGUAGE sql AS $$
    SELECT (column_name, partition_interval)::_timescaledb_internal.dimension_info $$;

CREATE FUNCTION tsdb.create_hypertable(relation regclass,
    dimension _timescaledb_internal.dimension_info, create_default_indexes boolean = true,
    if_not_exists boolean = false, migrate_data boolean = false)
RETURNS TABLE (hypertable_id integer, created boolean) LANGUAGE plpgsql AS $$ BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = relation) = 'p' THEN
        RAISE EXCEPTION 'table "%" is already partitioned', relation USING ERRCODE = '42809';
    END IF;
    INSERT INTO tsdb.called (call) VALUES (format('create_hypertable %s by %s %s', relation,
        dimension.column_name, dimension.span));
    INSERT INTO timescaledb_information.hypertables VALUES ('public', relation::text, false);
    RETURN QUERY SELECT 1, true;
END $$;

CREATE FUNCTION tsdb.columnstore() RETURNS void LANGUAGE sql AS $$
    UPDATE timescaledb_information.hypertables SET compression_enabled = true;
    INSERT INTO tsdb.called (call) VALUES ('columnstore') $$;

CREATE PROCEDURE tsdb.add_columnstore_policy(hypertable regclass, after interval = NULL,
    if_not_exists boolean = false, schedule_interval interval = NULL,
    initial_start timestamptz = NULL, timezone text = NULL, created_before interval = NULL{policy})
LANGUAGE plpgsql AS $$ BEGIN
    IF NOT (SELECT compression_enabled FROM timescaledb_information.hypertables) THEN
        RAISE EXCEPTION 'columnstore not enabled on hypertable "%"', hypertable;
    END IF;
    INSERT INTO tsdb.called (call) VALUES (format('add_columnstore_policy %s', after));
    INSERT INTO timescaledb_information.jobs VALUES ('policy_compression', hypertable::text,
        jsonb_build_object('compress_after', after));
END $$;
CREATE PROCEDURE tsdb.remove_columnstore_policy(hypertable regclass, if_exists boolean = false)
LANGUAGE sql AS $$
    DELETE FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression' $$;

CREATE FUNCTION tsdb.add_retention_policy(relation regclass, drop_after interval = NULL,
    if_not_exists boolean = false, schedule_interval interval = NULL,
    initial_start timestamptz = NULL, timezone text = NULL, drop_created_before interval = NULL)
RETURNS integer LANGUAGE sql AS $$
    INSERT INTO tsdb.called (call) VALUES (format('add_retention_policy %s', drop_after));
    INSERT INTO timescaledb_information.jobs VALUES ('policy_retention', relation::text,
        jsonb_build_object('drop_after', drop_after));
    SELECT 1 $$;
CREATE FUNCTION tsdb.remove_retention_policy(relation regclass, if_exists boolean = false)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO tsdb.called (call) VALUES ('remove_retention_policy');
    DELETE FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention' $$;

-- What CREATE EXTENSION would write down; the files of the real one are not here.
SET allow_system_table_mods = on;
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
    SELECT 987654, 'timescaledb', 10, oid, false, '{version}' FROM pg_namespace
    WHERE nspname = 'tsdb';
SET allow_system_table_mods = off;
"""
VERSIONS = tuple(_LATER)
# The name space of a storage parameter belongs to a loaded library, which no SQL can stand in for.
COLUMNSTORE = "SELECT tsdb.columnstore()"


async def install(connection, version):
    """As CREATE EXTENSION timescaledb SCHEMA tsdb VERSION version."""
    by_range, policy = _LATER[version]
    text = _STAND_INS.format(by_range=by_range, policy=policy, version=version)
    await connection.execute(text.encode())


async def called(connection):
    cursor = await connection.execute("SELECT call FROM tsdb.called ORDER BY id")
    return [call for (call,) in await cursor.fetchall()]
