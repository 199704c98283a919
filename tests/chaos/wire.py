"""A wire between two processes that can be made to fail: our own, because netem needs rights that a
test has not, and a real socket shows what the client libraries do.

    client -> Wire (own port) -> server          `UP`: from the client to the server, `DOWN`: back

All wires of a run live in one thread; faults are set from any other. What a fault does to a
connection that is open when it begins stands at each of `Fault`'s fields.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import Self

UP, DOWN = "up", "down"
BOTH = frozenset({UP, DOWN})
CHUNK_BYTES = 65_536
CALL_S = 10.0
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: close() sends a reset


@dataclass(frozen=True, kw_only=True)
class Fault:
    """How a wire fails; the default is a wire that does not.

    `refuse`: a new connection is reset at once; an open one too.
    `reset`: an open connection is reset; a new one works.
    `hold`: bytes of this direction wait where they are, and nobody is told; they arrive later.
    `swallow`: bytes of this direction are taken, acknowledged by TCP, and gone (half-open); when
    the fault ends, a connection that has lost bytes is reset.
    `only_open`: all this befalls connections that are open now; a new one works.
    `bytes_left`: when so many more bytes have gone up, their connection is reset; once.
    """

    refuse: bool = False
    reset: bool = False
    hold: frozenset[str] = frozenset()
    swallow: frozenset[str] = frozenset()
    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_left: int | None = None
    only_open: bool = False


WHOLE = Fault()
CUT = Fault(refuse=True)
RESET = Fault(reset=True)
HALF_OPEN = Fault(swallow=BOTH)
BLACKHOLE = Fault(hold=BOTH)
DEAF, MUTE = Fault(hold=frozenset({UP})), Fault(hold=frozenset({DOWN}))
"""One-way: the server hears nothing, the client hears nothing."""


@dataclass(eq=False)
class Joint:
    """One connection through a wire."""

    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    lost: bool = False  # bytes of it were swallowed
    spared: bool = False  # opened when the fault was there already

    def abort(self) -> None:
        """Reset both sides."""
        for writer in self.writers:
            with contextlib.suppress(OSError):
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Wire:
    """One listening port and the server behind it. `connections` and `carried` count."""

    def __init__(self, wires: "Wires", target: tuple[str, int]) -> None:
        """`Wires.open` makes it."""
        self._wires, self.target = wires, target
        self._fault = WHOLE
        self._left: int | None = None
        self._joints: set[Joint] = set()
        self._changed = asyncio.Event()
        self._random = random.Random(target[1])
        self._server: asyncio.Server | None = None
        self.port = 0
        self.connections = 0
        self.carried = {UP: 0, DOWN: 0}

    def fail(self, fault: Fault) -> None:
        """From now on, until `mend`. Returns when it is in force."""
        self._wires.call(self._set, fault)

    def mend(self) -> None:
        """Work again."""
        self.fail(WHOLE)

    def _set(self, fault: Fault) -> None:
        self._fault, self._left = fault, fault.bytes_left
        for joint in list(self._joints):
            joint.spared = False
            if fault.refuse or fault.reset or (joint.lost and not fault.swallow):
                joint.abort()
        self._changed.set()  # who holds bytes looks again
        self._changed = asyncio.Event()

    async def listen(self, host: str, port: int) -> None:
        self._server = await asyncio.start_server(self._join, host, port, limit=CHUNK_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for joint in list(self._joints):
            joint.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        joint = Joint([writer], spared=self._fault.only_open)
        self._joints.add(joint)
        try:
            if self._fault.refuse:
                return
            there, away = await asyncio.open_connection(*self.target, limit=CHUNK_BYTES)
            joint.writers.append(away)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(joint, UP, reader, away))
                group.create_task(self._pump(joint, DOWN, there, writer))
        except (OSError, ExceptionGroup):  # a side has gone, or the server is not there
            pass
        finally:
            joint.abort()
            self._joints.discard(joint)

    def _of(self, joint: Joint) -> Fault:
        return WHOLE if joint.spared else self._fault

    async def _pump(self, joint: Joint, way: str, source, sink) -> None:
        while data := await source.read(CHUNK_BYTES):
            while way in self._of(joint).hold:
                await self._changed.wait()
            fault = self._of(joint)
            if way in fault.swallow:
                joint.lost = True
                continue
            if fault.delay_s or fault.jitter_s:
                await asyncio.sleep(fault.delay_s + self._random.uniform(0, fault.jitter_s))
            self.carried[way] += len(data)
            if way == UP and self._left is not None:
                data, rest = data[: self._left], data[self._left :]
                self._left -= len(data)
                if rest or not self._left:
                    self._left = None
                    sink.write(data)
                    await sink.drain()
                    raise ConnectionResetError("cut at a byte")
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError("a side has ended")


class Wires:
    """The thread that all wires of a run live in; use as a context manager."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        """Nothing is opened yet."""
        self._host = host
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="wires", daemon=True)
        self._all: list[Wire] = []

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def call(self, function, *given):
        """Run a function in the thread; returns what it returns."""

        async def run():
            return function(*given)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(CALL_S)

    def open(self, target: tuple[str, int], port: int = 0) -> Wire:
        """A wire to `target`, which need not be there yet; listens on `port`, or any."""
        wire = self.call(Wire, self, target)
        asyncio.run_coroutine_threadsafe(wire.listen(self._host, port), self._loop).result(CALL_S)
        self._all.append(wire)
        return wire

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Reset what is open, and end."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(CALL_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_S)
        self._loop.close()

    async def _close(self) -> None:
        for wire in self._all:
            await wire.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest)
        await asyncio.sleep(0)  # what was aborted is closed in the loop's next turn
