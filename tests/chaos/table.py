"""What stands in the database, asked past the wires."""

import psycopg

from sizao.frame import Flag

# In whole microseconds: a float of the epoch loses the last of them.
_ROWS = f"""
    SELECT d.key, p.quantity, (extract(epoch FROM r.event) * 1000000)::bigint, count(*)
    FROM reading r JOIN point p ON p.id = r.point JOIN device d ON d.id = p.device
    WHERE r.flags & {Flag.NO_DEVICE_TIME:d} = 0 GROUP BY 1, 2, 3"""
_FRESH = "SELECT min(received_us) FROM archive_offset"


def connect(stack):
    """A connection of the test's own."""
    return psycopg.connect(
        stack.servers.postgres.dsn(stack.database_name), connect_timeout=2, autocommit=True
    )


def stored(stack) -> dict[tuple[str, int, int], int]:
    """(key, quantity, device time) -> how many rows."""
    with connect(stack) as connection:
        return {(key, code, at): count for key, code, at, count in connection.execute(_ROWS)}


def fresh_us(stack) -> int:
    """Arrival of the newest record stored, of the partition that lags most; 0 while away."""
    try:
        with connect(stack) as connection:
            return int(connection.execute(_FRESH).fetchone()[0] or 0)
    except psycopg.OperationalError:
        return 0
