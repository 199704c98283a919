"""The SQL that merges staged rows into the registry. `:generation` is the one being made.

For each table: STAGE makes the temporary table (column order of the row classes in write.py),
FAULTS lists (row, text) of every staged row that cannot be, MERGE ends changed rows and begins new
ones. Ids are dense: the next ones after the highest ever used.
"""

from __future__ import annotations

from sizao.limits import HEAT_CLASSES
from sizao.registry.model import USES
from sizao.units import GASES

STAGE: dict[str, str] = {
    "area": """
        CREATE TEMP TABLE staged_area (row integer, code text, parent text, level text,
            name_zh text, name_en text, lon double precision, lat double precision,
            floor smallint, use text)
        ON COMMIT DROP""",
    "carrier": """
        CREATE TEMP TABLE staged_carrier (row integer, name text, site text, revoked boolean)
        ON COMMIT DROP""",
    "device_type": """
        CREATE TEMP TABLE staged_device_type (row integer, name text, document text,
            quantities smallint[]) ON COMMIT DROP""",
    "device": """
        CREATE TEMP TABLE staged_device (row integer, key text, carrier text, device_type text,
            area text, heat_class smallint, mark text, state text,
            lon double precision, lat double precision, gas smallint) ON COMMIT DROP""",
    "swap": """
        CREATE TEMP TABLE staged_swap (row integer, key text, carrier text, new_key text,
            new_carrier text) ON COMMIT DROP""",
    "parameter": """
        CREATE TEMP TABLE staged_parameter (row integer, rule text, parameter text, scope text,
            scope_id integer, value double precision, from_minute smallint, to_minute smallint,
            days smallint, offset_minutes smallint, who text, why text) ON COMMIT DROP""",
}

_RANK = """array_position(ARRAY['district', 'street', 'community', 'grid', 'estate', 'site',
    'floor', 'zone', 'unit'], {})"""

_HEAT_CLASS_MAX = len(HEAT_CLASSES) - 1
_GAS_MAX = len(GASES) - 1
_USES = ", ".join(f"'{use}'" for use in USES)
PARAMETERS_MAX = 10_000  # held in force; every process reads them all

FAULTS: dict[str, str] = {
    "area": f"""
        SELECT row, text FROM (
            SELECT row, format('area %s stands twice in this change', code) AS text,
                   count(*) OVER (PARTITION BY code) > 1 AS wrong FROM staged_area
            UNION ALL
            SELECT row, format('area %s: level %s is none of the tree''s levels', code, level),
                   {_RANK.format("level")} IS NULL FROM staged_area
            UNION ALL
            SELECT s.row, format('area %s: parent %s is unknown', s.code, s.parent),
                   p.code IS NULL AND up.code IS NULL AND s.level <> 'district'
            FROM staged_area s
            LEFT JOIN area p ON p.code = s.parent AND p.to_gen IS NULL
            LEFT JOIN staged_area up ON up.code = s.parent
            UNION ALL
            SELECT s.row, format('area %s (%s) cannot stand under %s (%s)',
                                 s.code, s.level, s.parent, coalesce(up.level, p.level)),
                   {_RANK.format("coalesce(up.level, p.level)")} >= {_RANK.format("s.level")}
                   OR (s.level = 'district') <> (s.parent = '')
            FROM staged_area s
            LEFT JOIN area p ON p.code = s.parent AND p.to_gen IS NULL
            LEFT JOIN staged_area up ON up.code = s.parent
            UNION ALL
            SELECT s.row, format('area %s: a site cannot change its level (%s to %s)',
                                 s.code, a.level, s.level), a.level <> s.level
            FROM staged_area s JOIN area a ON a.code = s.code AND a.to_gen IS NULL
            UNION ALL
            SELECT row, format('area %s: coordinates %s, %s are not WGS 84 degrees',
                               code, lon, lat),
                   lon NOT BETWEEN -180 AND 180 OR lat NOT BETWEEN -90 AND 90 FROM staged_area
            UNION ALL
            SELECT row, format('area %s: floor %s: expected -20 to 200, of level floor alone',
                               code, floor),
                   floor NOT BETWEEN -20 AND 200 OR (floor IS NOT NULL AND level <> 'floor')
            FROM staged_area
            UNION ALL
            SELECT row, format('area %s: use %s: expected {", ".join(USES[1:])} or none',
                               code, use),
                   use <> ALL (ARRAY[{_USES}]) FROM staged_area
        ) fault WHERE wrong""",
    "carrier": """
        SELECT row, text FROM (
            SELECT row, format('carrier %s stands twice in this change', name) AS text,
                   count(*) OVER (PARTITION BY name) > 1 AS wrong FROM staged_carrier
            UNION ALL
            SELECT row, format('carrier %s: a name is an MQTT user name without / + #', name),
                   name = '' OR name ~ '[/+#[:cntrl:]]' FROM staged_carrier
            UNION ALL
            SELECT s.row, format('carrier %s: site %s is unknown', s.name, s.site),
                   s.site <> '' AND a.id IS NULL
            FROM staged_carrier s
            LEFT JOIN area a ON a.code = s.site AND a.level = 'site' AND a.to_gen IS NULL
        ) fault WHERE wrong""",
    "device_type": """
        SELECT row, format('device type %s stands twice in this change', name) FROM (
            SELECT row, name, count(*) OVER (PARTITION BY name) AS times FROM staged_device_type
        ) fault WHERE times > 1""",
    "device": f"""
        SELECT row, text FROM (
            SELECT row, format('key %s stands twice under carrier %s', key, carrier) AS text,
                   count(*) OVER (PARTITION BY carrier, key) > 1 AS wrong FROM staged_device
            UNION ALL
            SELECT row, format('key %s: 1 to 128 characters without / + # or controls', key),
                   length(key) NOT BETWEEN 1 AND 128 OR key ~ '[/+#[:cntrl:]]' FROM staged_device
            UNION ALL
            SELECT s.row, format('device %s: carrier %s is unknown', s.key, s.carrier),
                   c.id IS NULL
            FROM staged_device s LEFT JOIN carrier c ON c.name = s.carrier AND c.to_gen IS NULL
            UNION ALL
            SELECT s.row, format('device %s: type %s is unknown', s.key, s.device_type),
                   t.id IS NULL
            FROM staged_device s
            LEFT JOIN device_type t ON t.name = s.device_type AND t.to_gen IS NULL
            UNION ALL
            SELECT s.row, format('device %s: area %s is unknown', s.key, s.area), a.id IS NULL
            FROM staged_device s LEFT JOIN area a ON a.code = s.area AND a.to_gen IS NULL
            UNION ALL
            SELECT s.row, format('device %s: area %s (%s) lies in no site', s.key, a.code, a.level),
                   w.id IS NULL
            FROM staged_device s JOIN area a ON a.code = s.area AND a.to_gen IS NULL
            LEFT JOIN area_site w ON w.id = a.id
            UNION ALL
            SELECT row, format('device %s: mark %s, state %s: expected mark real, test or canary;'
                               ' state planned, in_service, isolated or retired', key, mark, state),
                   mark NOT IN ('real', 'test', 'canary')
                   OR state NOT IN ('planned', 'in_service', 'isolated', 'retired')
            FROM staged_device
            UNION ALL
            SELECT row, format('device %s: heat class %s: expected 0 to {_HEAT_CLASS_MAX}',
                               key, heat_class),
                   heat_class NOT BETWEEN 0 AND {_HEAT_CLASS_MAX} FROM staged_device
            UNION ALL
            SELECT row, format('device %s: gas %s: expected 0 to {_GAS_MAX}', key, gas),
                   gas NOT BETWEEN 0 AND {_GAS_MAX} FROM staged_device
            UNION ALL
            SELECT row, format('device %s: coordinates %s, %s are not WGS 84 degrees',
                               key, lon, lat),
                   lon NOT BETWEEN -180 AND 180 OR lat NOT BETWEEN -90 AND 90 FROM staged_device
        ) fault WHERE wrong""",
    "swap": """
        SELECT row, text FROM (
            SELECT row, format('key %s: 1 to 128 characters without / + # or controls', new_key)
                   AS text,
                   length(new_key) NOT BETWEEN 1 AND 128 OR new_key ~ '[/+#[:cntrl:]]' AS wrong
            FROM staged_swap
            UNION ALL
            SELECT row, format('a key stands twice in this change: %s or %s', key, new_key),
                   count(*) OVER (PARTITION BY carrier, key) > 1
                   OR count(*) OVER (PARTITION BY new_carrier, new_key) > 1 FROM staged_swap
            UNION ALL
            SELECT s.row, format('device %s under carrier %s is unknown', s.key, s.carrier),
                   d.id IS NULL
            FROM staged_swap s LEFT JOIN carrier c ON c.name = s.carrier AND c.to_gen IS NULL
            LEFT JOIN device d ON d.carrier = c.id AND d.key = s.key AND d.to_gen IS NULL
            UNION ALL
            SELECT s.row, format('device %s: carrier %s is unknown', s.new_key, s.new_carrier),
                   c.id IS NULL
            FROM staged_swap s LEFT JOIN carrier c ON c.name = s.new_carrier AND c.to_gen IS NULL
            UNION ALL
            SELECT s.row, format('device %s is registered under carrier %s already', s.new_key,
                                 s.new_carrier), true
            FROM staged_swap s JOIN carrier c ON c.name = s.new_carrier AND c.to_gen IS NULL
            JOIN device d ON d.carrier = c.id AND d.key = s.new_key AND d.to_gen IS NULL
        ) fault WHERE wrong""",
    "parameter": f"""
        SELECT row, text FROM (
            SELECT s.row, format('rule %s takes no parameter %s', s.rule, s.parameter) AS text,
                   p.name IS NULL AND s.value IS NOT NULL AS wrong
            FROM staged_parameter s
            LEFT JOIN detector_parameter p ON p.detector = s.rule AND p.name = s.parameter
            UNION ALL
            SELECT s.row, format('rule %s: %s = %s: expected %s to %s', s.rule, s.parameter,
                                 s.value, p.low, p.high), s.value NOT BETWEEN p.low AND p.high
                   AND s.value <> p.shipped
            FROM staged_parameter s
            JOIN detector_parameter p ON p.detector = s.rule AND p.name = s.parameter
            UNION ALL
            SELECT s.row, format('rule %s: %s: %s %s is not registered', s.rule, s.parameter,
                                 s.scope, s.scope_id),
                   s.scope <> 'district' AND coalesce(a.id, t.id, d.id) IS NULL
                   AND s.value IS NOT NULL
            FROM staged_parameter s
            LEFT JOIN area a ON s.scope = 'area' AND a.id = s.scope_id AND a.to_gen IS NULL
            LEFT JOIN device_type t ON s.scope = 'type' AND t.id = s.scope_id AND t.to_gen IS NULL
            LEFT JOIN device d ON s.scope = 'device' AND d.id = s.scope_id AND d.to_gen IS NULL
            UNION ALL
            SELECT 0, 'over {PARAMETERS_MAX} parameters are set: set areas, not single devices',
                   (SELECT count(*) FROM rule_parameter WHERE to_gen IS NULL)
                   + (SELECT count(*) FROM staged_parameter WHERE value IS NOT NULL)
                   > {PARAMETERS_MAX} AND EXISTS (
                       SELECT FROM staged_parameter WHERE value IS NOT NULL)
        ) fault WHERE wrong""",
}

_AREA = (
    # Ids first, so that parents of this change can be named by id. A new site takes the partition
    # with the fewest points, then the fewest sites, and keeps it for life.
    """CREATE TEMP TABLE area_id ON COMMIT DROP AS
        SELECT s.code, coalesce(a.id, (SELECT coalesce(max(id), 0) FROM area)
               + row_number() OVER (PARTITION BY a.id IS NULL ORDER BY s.row)) AS id,
               a.partition AS old_partition, (row_number() OVER (
                   PARTITION BY s.level = 'site' AND a.id IS NULL ORDER BY s.row) - 1)
                   % (SELECT partitions FROM district) AS turn
        FROM staged_area s LEFT JOIN area a ON a.code = s.code AND a.to_gen IS NULL""",
    """CREATE TEMP TABLE load ON COMMIT DROP AS
        SELECT p AS partition, row_number() OVER (ORDER BY
               (SELECT count(*) FROM point WHERE point.partition = p AND to_gen IS NULL),
               (SELECT count(*) FROM area WHERE area.partition = p AND to_gen IS NULL), p) - 1 AS n
        FROM generate_series(0, (SELECT partitions FROM district) - 1) p""",
    """CREATE TEMP TABLE new_area ON COMMIT DROP AS
        SELECT i.id, coalesce(up.id, p.id, 0) AS parent, s.level, s.code, s.name_zh, s.name_en,
               s.lon, s.lat, s.floor, s.use, CASE WHEN s.level = 'site'
                   THEN coalesce(i.old_partition, load.partition) ELSE -1 END::smallint AS partition
        FROM staged_area s JOIN area_id i USING (code) JOIN load ON load.n = i.turn
        LEFT JOIN area p ON p.code = s.parent AND p.to_gen IS NULL
        LEFT JOIN area_id up ON up.code = s.parent""",
    "ANALYZE new_area",
    """DELETE FROM new_area n USING area a WHERE a.id = n.id AND a.to_gen IS NULL
        AND (a.parent, a.level, a.name_zh, a.name_en, a.lon, a.lat, a.floor, a.use) IS NOT DISTINCT
        FROM (n.parent, n.level, n.name_zh, n.name_en, n.lon, n.lat, n.floor, n.use)""",
    """UPDATE area SET to_gen = :generation FROM new_area n
        WHERE area.id = n.id AND area.to_gen IS NULL""",
    """INSERT INTO area SELECT id, parent, level, code, name_zh, name_en, lon, lat, partition,
        :generation, NULL, floor, use FROM new_area""",
)

_CARRIER = (
    """CREATE TEMP TABLE new_carrier ON COMMIT DROP AS
        SELECT coalesce(c.id, (SELECT coalesce(max(id), 0) FROM carrier)
               + row_number() OVER (PARTITION BY c.id IS NULL ORDER BY s.row)) AS id,
               s.name, coalesce(a.id, 0) AS site, coalesce(s.revoked, c.revoked, false) AS revoked
        FROM staged_carrier s
        LEFT JOIN carrier c ON c.name = s.name AND c.to_gen IS NULL
        LEFT JOIN area a ON a.code = s.site AND a.to_gen IS NULL""",
    "ANALYZE new_carrier",
    """DELETE FROM new_carrier n USING carrier c
        WHERE c.id = n.id AND c.to_gen IS NULL AND (c.site, c.revoked) = (n.site, n.revoked)""",
    """UPDATE carrier SET to_gen = :generation FROM new_carrier n
        WHERE carrier.id = n.id AND carrier.to_gen IS NULL""",
    """INSERT INTO carrier SELECT id, name, site, :generation, NULL, revoked
        FROM new_carrier""",
)

_DEVICE_TYPE = (
    """CREATE TEMP TABLE new_type ON COMMIT DROP AS
        SELECT coalesce(t.id, (SELECT coalesce(max(id), 0) FROM device_type)
               + row_number() OVER (PARTITION BY t.id IS NULL ORDER BY s.row)) AS id,
               s.name, coalesce(t.version, 0) + 1 AS version, s.document, s.quantities
        FROM staged_device_type s
        LEFT JOIN device_type t ON t.name = s.name AND t.to_gen IS NULL""",
    "ANALYZE new_type",
    """DELETE FROM new_type n USING device_type t WHERE t.id = n.id AND t.to_gen IS NULL
        AND t.document = n.document AND t.quantities = n.quantities""",
    """UPDATE device_type SET to_gen = :generation FROM new_type n
        WHERE device_type.id = n.id AND device_type.to_gen IS NULL""",
    """INSERT INTO device_type
        SELECT id, name, version, document, quantities, :generation, NULL FROM new_type""",
)

# The site of every area that lies in one, once the areas are merged.
AREA_SITE = """CREATE TEMP TABLE area_site ON COMMIT DROP AS
        WITH RECURSIVE down AS (
            SELECT id, id AS site FROM area WHERE level = 'site' AND to_gen IS NULL
            UNION ALL
            SELECT a.id, down.site FROM area a JOIN down ON a.parent = down.id
            WHERE a.to_gen IS NULL
        ) SELECT id, site FROM down"""

_DEVICE = (
    """CREATE TEMP TABLE new_device ON COMMIT DROP AS
        SELECT coalesce(d.id, (SELECT coalesce(max(id), 0) FROM device)
               + row_number() OVER (PARTITION BY d.id IS NULL ORDER BY s.row)) AS id,
               s.key, c.id AS carrier, t.id AS device_type, a.id AS area, w.site,
               s.heat_class, s.gas, s.mark, s.state, s.lon, s.lat
        FROM staged_device s
        JOIN carrier c ON c.name = s.carrier AND c.to_gen IS NULL
        JOIN device_type t ON t.name = s.device_type AND t.to_gen IS NULL
        JOIN area a ON a.code = s.area AND a.to_gen IS NULL
        JOIN area_site w ON w.id = a.id
        LEFT JOIN device d ON d.carrier = c.id AND d.key = s.key AND d.to_gen IS NULL""",
    "ANALYZE new_device",
    """DELETE FROM new_device n USING device d WHERE d.id = n.id AND d.to_gen IS NULL
        AND (d.device_type, d.area, d.site, d.heat_class, d.gas, d.mark, d.state, d.lon, d.lat)
        IS NOT DISTINCT FROM
            (n.device_type, n.area, n.site, n.heat_class, n.gas, n.mark, n.state, n.lon, n.lat)""",
    """UPDATE device SET to_gen = :generation FROM new_device n
        WHERE device.id = n.id AND device.to_gen IS NULL""",
    """INSERT INTO device SELECT id, key, carrier, device_type, area, site, heat_class, mark,
        state, lon, lat, :generation, NULL, gas FROM new_device""",
)

# The device keeps its id, and so its points and their history; another key speaks for it.
_SWAP = (
    """CREATE TEMP TABLE new_key ON COMMIT DROP AS
        SELECT d.id, s.new_key, up.id AS carrier
        FROM staged_swap s
        JOIN carrier c ON c.name = s.carrier AND c.to_gen IS NULL
        JOIN device d ON d.carrier = c.id AND d.key = s.key AND d.to_gen IS NULL
        JOIN carrier up ON up.name = s.new_carrier AND up.to_gen IS NULL""",
    """UPDATE device SET to_gen = :generation FROM new_key n
        WHERE device.id = n.id AND device.to_gen IS NULL""",
    """INSERT INTO device SELECT d.id, n.new_key, n.carrier, d.device_type, d.area, d.site,
        d.heat_class, d.mark, d.state, d.lon, d.lat, :generation, NULL, d.gas
        FROM device d JOIN new_key n ON n.id = d.id AND d.to_gen = :generation""",
)

# The same scope and window keeps its number, whatever its value.
_PARAMETER = (
    """CREATE TEMP TABLE new_parameter ON COMMIT DROP AS
        SELECT coalesce(p.id, (SELECT coalesce(max(id), 0) FROM rule_parameter)
               + row_number() OVER (PARTITION BY p.id IS NULL ORDER BY s.row)) AS id, s.*
        FROM staged_parameter s LEFT JOIN rule_parameter p
        ON (p.rule, p.parameter, p.scope, p.scope_id, p.from_minute, p.to_minute, p.days)
         = (s.rule, s.parameter, s.scope, s.scope_id, s.from_minute, s.to_minute, s.days)
        AND p.to_gen IS NULL""",
    """DELETE FROM new_parameter n USING rule_parameter p WHERE p.id = n.id AND p.to_gen IS NULL
        AND (p.value, p.offset_minutes) = (n.value, n.offset_minutes)""",
    """UPDATE rule_parameter SET to_gen = :generation FROM new_parameter n
        WHERE rule_parameter.id = n.id AND rule_parameter.to_gen IS NULL""",
    """INSERT INTO rule_parameter SELECT id, rule, parameter, scope, scope_id, value, from_minute,
        to_minute, days, offset_minutes, who, why, :generation, NULL
        FROM new_parameter WHERE value IS NOT NULL""",
)

MERGE: dict[str, tuple[str, ...]] = {
    "area": _AREA,
    "carrier": _CARRIER,
    "device_type": _DEVICE_TYPE,
    "device": _DEVICE,
    "swap": _SWAP,
    "parameter": _PARAMETER,
}

# An area that moved takes its devices along. (They stayed in their old site: signals named that one
# and the words for people the new one.)
HOMELESS = """
    WITH RECURSIVE below AS (
        SELECT a.id, s.row, s.code
        FROM staged_area s JOIN area a ON a.code = s.code AND a.to_gen IS NULL
        UNION ALL
        SELECT a.id, b.row, b.code FROM area a JOIN below b ON a.parent = b.id
        WHERE a.to_gen IS NULL
    ) SELECT row, format('area %s: it would lie in no site, with %s devices in it', code, count(*))
    FROM below JOIN device d ON d.area = below.id AND d.to_gen IS NULL
    LEFT JOIN area_site w ON w.id = d.area
    WHERE w.id IS NULL GROUP BY row, code"""

MOVES: tuple[str, ...] = (
    """CREATE TEMP TABLE moved ON COMMIT DROP AS
        SELECT d.id, w.site FROM device d JOIN area_site w ON w.id = d.area
        WHERE d.to_gen IS NULL AND d.site <> w.site""",
    "ANALYZE moved",
    """UPDATE device SET to_gen = :generation FROM moved
        WHERE device.id = moved.id AND device.to_gen IS NULL""",
    """INSERT INTO device SELECT d.id, d.key, d.carrier, d.device_type, d.area, moved.site,
        d.heat_class, d.mark, d.state, d.lon, d.lat, :generation, NULL, d.gas
        FROM device d JOIN moved ON moved.id = d.id AND d.to_gen = :generation""",
)

POINTS: tuple[str, ...] = (
    # A device that moved to another site gets new points there, linked to the old.
    """CREATE TEMP TABLE needed ON COMMIT DROP AS
        SELECT d.id AS device, q.quantity, d.site, s.partition
        FROM device d
        JOIN device_type t ON t.id = d.device_type AND t.to_gen IS NULL
        JOIN area s ON s.id = d.site AND s.to_gen IS NULL
        CROSS JOIN LATERAL unnest(t.quantities) AS q (quantity)
        WHERE d.to_gen IS NULL""",
    "ANALYZE needed",
    """CREATE TEMP TABLE ended ON COMMIT DROP AS
        SELECT p.id, p.device, p.quantity FROM point p
        LEFT JOIN needed n USING (device, quantity, site)
        WHERE p.to_gen IS NULL AND n.device IS NULL""",
    "ANALYZE ended",
    """UPDATE point SET to_gen = :generation FROM ended
        WHERE point.id = ended.id AND point.to_gen IS NULL""",
    """INSERT INTO point (id, device, quantity, site, partition, moved_from, from_gen)
        SELECT (SELECT coalesce(max(id), 0) FROM point)
               + row_number() OVER (ORDER BY n.device, n.quantity),
               n.device, n.quantity, n.site, n.partition, e.id, :generation
        FROM needed n
        LEFT JOIN point p ON p.device = n.device AND p.quantity = n.quantity AND p.site = n.site
            AND p.to_gen IS NULL
        LEFT JOIN ended e ON e.device = n.device AND e.quantity = n.quantity
        WHERE p.id IS NULL""",
)

# Without fresh statistics the next change of a district is planned as for an empty one.
STATISTICS = "ANALYZE area, carrier, device_type, device, point"
