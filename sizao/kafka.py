"""The only door to aiokafka. Four of its defaults are unsafe and are set here, once:
`acks`, `enable_idempotence`, `enable_auto_commit`, `auto_offset_reset`.

An idempotent aiokafka producer never gives a batch up and cannot be stopped while the broker is
away (aiokafka#1101), so nothing here waits for it to fail: callers bound what they hand over, and
the service's watchdog replaces a process that makes no progress although Kafka answers a probe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import RecordMetadata
from pydantic import BaseModel, ConfigDict

from sizao.errors import Permanent, Retriable
from sizao.topics import TOPICS, Topic

Headers = Sequence[tuple[str, bytes]]
Partition = tuple[str, int]
"""Topic name and partition number."""

_REQUEST_TIMEOUT_MS = 5_000
_STOP_DEADLINE_S = 5.0
_START_DEADLINE_S = 10.0
_GROUP_DEADLINE_S = 5.0  # the library looks for a group's coordinator without end
_RETRY_BACKOFF_MS = 250  # 100, the default, writes 60 error lines a second into the log
_METADATA_AGE_MS = 30_000
_FETCH_BYTES = 1 << 20
_FETCH_TOTAL_BYTES = 16 << 20
_RECORD_BYTES_MAX = 2 << 20  # rejects keep 1 MiB payloads byte-exact, with headers
# Kafka's limit of a topic counts the batch, so records that fit one by one were refused for good
# when a storm put them into one. A record larger than this travels alone.
_BATCH_BYTES_MAX = min(topic.record_bytes_max for topic in TOPICS)


class KafkaSettings(BaseModel):
    """Where Kafka is."""

    model_config = ConfigDict(extra="forbid")

    bootstrap: str = "127.0.0.1:9092"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A record to write. `timestamp_ms` is arrival time; never a device's clock."""

    topic: str
    partition: int
    value: bytes
    headers: Headers = ()
    key: bytes | None = None
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A record read."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    headers: Headers
    key: bytes | None
    timestamp_ms: int


def _ours(error: BaseException) -> Retriable | Permanent:
    """A foreign exception as ours."""
    if isinstance(error, kafka_errors.KafkaError) and not error.retriable:
        # What the library says of a broker that is away, without calling it retriable.
        away = (
            kafka_errors.KafkaConnectionError,
            kafka_errors.KafkaTimeoutError,
            kafka_errors.NodeNotReadyError,
        )
        if not isinstance(error, away):
            return Permanent(f"Kafka: {error!r}")
    return Retriable(f"Kafka: {error!r}")


class Producer:
    """Idempotent, `acks=all`. Used by one task; bounds are the caller's."""

    def __init__(self, settings: KafkaSettings, *, client_id: str) -> None:
        """Connects in `start`, not here."""
        self._settings = settings
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect. Raises Retriable while no broker answers; a cancelled start leaves nothing."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.bootstrap,
            client_id=self._client_id,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_request_size=_RECORD_BYTES_MAX,
            max_batch_size=_BATCH_BYTES_MAX,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            retry_backoff_ms=_RETRY_BACKOFF_MS,
            metadata_max_age_ms=_METADATA_AGE_MS,
        )
        try:
            async with asyncio.timeout(_START_DEADLINE_S):
                await producer.start()
        except BaseException as error:
            await _stop_quietly(producer)
            if isinstance(error, (kafka_errors.KafkaError, TimeoutError, OSError)):
                raise _ours(error) from error
            raise
        self._producer = producer

    async def send(self, records: Iterable[Outgoing]) -> None:
        """Write records and return when every one is acknowledged.

        While the broker is away it waits (the library retries, in order, without duplicates).
        Cancelled: records may or may not be written. Raises Permanent for a record that the broker
        refuses for good, Retriable for the rest.
        """
        assert self._producer is not None, "start() first"
        producer, acknowledgements = self._producer, []
        records = list(records)
        try:
            # All topics first: a caller who repeats a send that failed half-way says things twice.
            for topic, number in {(record.topic, record.partition) for record in records}:
                if number not in await producer.partitions_for(topic):
                    raise Permanent(
                        f"Kafka: topic {topic} has no partition {number}; the registry has another"
                        " number of partitions than `sizao migrate` made"
                    )
            for record in records:
                acknowledgements += [await _handed_over(producer, record)]
            for acknowledgement in acknowledgements:
                await acknowledgement
        except kafka_errors.KafkaError as error:
            raise _ours(error) from error

    async def stop(self) -> None:
        """Close within 5 s, whatever the broker does."""
        if self._producer is not None:
            await _stop_quietly(self._producer)
            self._producer = None


async def _handed_over(
    producer: AIOKafkaProducer, record: Outgoing
) -> asyncio.Future[RecordMetadata]:
    """Give a record to the library, however long it has no room for it."""
    while True:
        try:
            acknowledgement: asyncio.Future[RecordMetadata] = await producer.send(
                record.topic,
                value=record.value,
                key=record.key,
                partition=record.partition,
                timestamp_ms=record.timestamp_ms,
                headers=list(record.headers),
            )
        except kafka_errors.KafkaTimeoutError:  # raised to the caller, it would begin anew
            continue
        return acknowledgement


class Reader:
    """Reads fixed partitions by manual assignment: no group, no rebalance.

    Records of one partition come in order. `auto_offset_reset=none`: an offset that is no longer
    in the log raises OffsetGone, so that a log which came back shorter is noticed.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        partitions: Iterable[Partition],
        *,
        client_id: str,
        group: str | None = None,
        fetch_bytes_min: int = 1,
    ) -> None:
        """`group`: only for `committed` and `commit`."""
        self._settings = settings
        self.partitions = [TopicPartition(*partition) for partition in partitions]
        self._client_id = client_id
        self._group = group
        self._fetch_bytes_min = fetch_bytes_min
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        """Connect and assign. Raises Retriable while no broker answers."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.bootstrap,
            client_id=self._client_id,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_min_bytes=self._fetch_bytes_min,
            fetch_max_wait_ms=500,
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_bytes=_FETCH_TOTAL_BYTES,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            retry_backoff_ms=_RETRY_BACKOFF_MS,
            metadata_max_age_ms=_METADATA_AGE_MS,
        )
        try:
            async with asyncio.timeout(_START_DEADLINE_S):
                await consumer.start()
                consumer.assign(self.partitions)
        except BaseException as error:
            await _stop_quietly(consumer)
            if isinstance(error, (kafka_errors.KafkaError, TimeoutError, OSError)):
                raise _ours(error) from error
            raise
        self._consumer = consumer

    @property
    def _started(self) -> AIOKafkaConsumer:
        assert self._consumer is not None, "start() first"
        return self._consumer

    async def fetch(self, wait_ms: int, records_max: int | None = None) -> list[Incoming]:
        """Up to `records_max` records; [] after `wait_ms` without one.

        Raises OffsetGone with the partitions whose position is not in the log.
        """
        try:
            batches = await self._started.getmany(timeout_ms=wait_ms, max_records=records_max)
        except kafka_errors.NoOffsetForPartitionError as error:
            raise OffsetGone([_pair(tp) for tp in _named(error, self.partitions)]) from error
        except kafka_errors.OffsetOutOfRangeError as error:
            raise OffsetGone([_pair(tp) for tp in _named(error, self.partitions)]) from error
        except kafka_errors.KafkaError as error:
            raise _ours(error) from error
        return [
            Incoming(
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                value=record.value,
                headers=record.headers,
                key=record.key,
                timestamp_ms=record.timestamp,
            )
            for batch in batches.values()
            for record in batch
        ]

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from `offset`."""
        self._started.seek(TopicPartition(*partition), offset)

    async def starts(self) -> dict[Partition, int]:
        """First offset still in the log of each partition."""
        return await self._offsets("beginning_offsets")

    async def ends(self) -> dict[Partition, int]:
        """Offset after the newest record of each partition."""
        return await self._offsets("end_offsets")

    async def _offsets(self, which: str) -> dict[Partition, int]:
        try:
            found = await getattr(self._started, which)(self.partitions)
        except (kafka_errors.KafkaError, TimeoutError) as error:
            raise _ours(error) from error
        return {_pair(partition): offset for partition, offset in found.items()}

    async def offsets_at(self, times_ms: Mapping[Partition, int]) -> dict[Partition, int | None]:
        """First offset whose record came at or after a time; None where there is none."""
        wanted = {TopicPartition(*partition): at for partition, at in times_ms.items()}
        try:
            found = await self._started.offsets_for_times(wanted)
        except (kafka_errors.KafkaError, TimeoutError) as error:
            raise _ours(error) from error
        return {_pair(tp): None if place is None else place.offset for tp, place in found.items()}

    async def committed(self) -> dict[Partition, int | None]:
        """The group's committed offset of each partition; None where it never committed."""
        try:
            async with asyncio.timeout(_GROUP_DEADLINE_S):
                return {_pair(tp): await self._started.committed(tp) for tp in self.partitions}
        except (kafka_errors.KafkaError, TimeoutError) as error:
            raise _ours(error) from error

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Store the next offset to read of each partition under the group, within 5 s."""
        try:
            async with asyncio.timeout(_GROUP_DEADLINE_S):
                await self._started.commit(
                    {TopicPartition(*partition): offset for partition, offset in offsets.items()}
                )
        except (kafka_errors.KafkaError, TimeoutError) as error:
            raise _ours(error) from error

    async def stop(self) -> None:
        """Close within 5 s, whatever the broker does."""
        if self._consumer is not None:
            await _stop_quietly(self._consumer)
            self._consumer = None


@dataclass
class OffsetGone(Permanent):
    """The wanted offset is not in the log: retention passed it, or the log came back shorter."""

    partitions: list[Partition] = field(default_factory=list)

    def __str__(self) -> str:
        """Name the partitions."""
        return f"Kafka: the wanted offset is no longer in the log of {self.partitions}"


def _pair(partition: TopicPartition) -> Partition:
    return partition.topic, partition.partition


def _named(error: Exception, all_of_them: list[TopicPartition]) -> list[TopicPartition]:
    said = error.args[0] if error.args else None
    if isinstance(said, Mapping):
        return [TopicPartition(*tp) for tp in said]
    return [said] if isinstance(said, TopicPartition) else all_of_them


async def _stop_quietly(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    try:
        async with asyncio.timeout(_STOP_DEADLINE_S):
            await client.stop()
    except (TimeoutError, kafka_errors.KafkaError, OSError):
        return  # the process ends or reconnects; the broker drops the connection by itself
    except asyncio.CancelledError:
        # aiokafka cancels its own tasks and lets their end out, which would look like ours.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise


async def probe(settings: KafkaSettings) -> None:
    """Fresh connection and one metadata answer. Raises Retriable when Kafka is away."""
    await _admin(settings, _list_topics)


async def _list_topics(admin: AIOKafkaAdminClient) -> list[str]:
    topics: list[str] = await admin.list_topics()
    return topics


async def make_topics(
    settings: KafkaSettings, *, partitions: int, replication: int = 1
) -> list[str]:
    """Create what is missing of `topics.TOPICS`; returns the names made now. Idempotent."""

    async def make(admin: AIOKafkaAdminClient) -> list[str]:
        there = set(await _list_topics(admin))
        missing = [topic for topic in TOPICS if topic.name not in there]
        if missing:
            new = [_new_topic(topic, partitions, replication) for topic in missing]
            answer = await admin.create_topics(new)
            for name, code, *_ in answer.topic_errors:
                if code not in {0, kafka_errors.TopicAlreadyExistsError.errno}:
                    raise Permanent(f"Kafka: topic {name}: {kafka_errors.for_code(code)!r}")
        return [topic.name for topic in missing]

    made: list[str] = await _admin(settings, make)
    return made


def _new_topic(topic: Topic, partitions: int, replication: int) -> NewTopic:
    config = {
        "retention.ms": str(topic.retention_ms),
        "max.message.bytes": str(topic.record_bytes_max),
        "message.timestamp.type": "CreateTime",
    }
    return NewTopic(topic.name, partitions, replication, topic_configs=config)


async def _admin(
    settings: KafkaSettings, call: Callable[[AIOKafkaAdminClient], Awaitable[list[str]]]
) -> list[str]:
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS
    )
    try:
        async with asyncio.timeout(_START_DEADLINE_S):
            await admin.start()
            return await call(admin)
    except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
        raise _ours(error) from error
    finally:
        try:
            async with asyncio.timeout(_STOP_DEADLINE_S):
                await admin.close()
        except (TimeoutError, kafka_errors.KafkaError, OSError):
            pass
