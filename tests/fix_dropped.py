"""aiokafka drops connections: one that was still being opened when its client was cancelled
(client.py, `_get_conn` and `bootstrap`), those of a broker that was killed. Found by the collector
when the loop of their test is closed, nothing can close them in an orderly way any more; socket,
transport and stream each warn, and whole runs went red at their very end. Here they go quietly.
"""

import contextlib

from aiokafka.conn import AIOKafkaConnection


def _let_go(connection: AIOKafkaConnection) -> None:
    writer = getattr(connection, "_writer", None)
    if writer is None:
        return
    transport = writer.transport
    with contextlib.suppress(RuntimeError):  # of a loop that is closed
        transport.abort()
    socket = getattr(transport, "_sock", None)
    if socket is not None:
        socket.close()
        transport._sock = None


AIOKafkaConnection.__del__ = _let_go
