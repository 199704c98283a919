"""The only door to aiokafka. Four of its defaults are unsafe and are set here, once:
`acks`, `enable_idempotence`, `enable_auto_commit`, `auto_offset_reset`.

An idempotent aiokafka producer never gives a batch up and cannot be stopped while the broker is
away (aiokafka#1101), so nothing here waits for it to fail: callers bound what they hand over, and
the service's watchdog replaces a process that makes no progress although Kafka answers a probe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import ConsumerRecord, RecordMetadata
from pydantic import BaseModel, ConfigDict

from sizao import records as records_of
from sizao.errors import BadInput, Permanent, Retriable
from sizao.records import Incoming, OffsetGone, Outgoing, Partition
from sizao.topics import TOPICS, Topic

__all__ = [
    "Incoming", "KafkaSettings", "OffsetGone", "Outgoing", "Partition", "Producer", "Reader",
    "make_topics", "probe",
]  # fmt: skip

_REQUEST_TIMEOUT_MS = 5_000
_STOP_DEADLINE_S = 5.0
_START_DEADLINE_S = 10.0
_GROUP_DEADLINE_S = 5.0  # the library looks for a group's coordinator without end
_RETRY_BACKOFF_MS = 250  # 100, the default, writes 60 error lines a second into the log
_METADATA_AGE_MS = 30_000
_FETCH_BYTES = 1 << 20
_FETCH_TOTAL_BYTES = 16 << 20
# As long as the library has room it never waits: 10,000 dead letters held the loop up, and the lane
# beside it, for as long as it took to hand all of them over.
_TURN_RECORDS = 250
_ANY_MS = str((1 << 63) - 1)
_RECORD_BYTES_MAX = 2 << 20  # rejects keep 1 MiB payloads byte-exact, with headers
# Kafka's limit of a topic counts the batch, so records that fit one by one were refused for good
# when a storm put them into one. A record larger than this travels alone.
_BATCH_BYTES_MAX = min(topic.record_bytes_max for topic in TOPICS)
_GONE = (kafka_errors.NoOffsetForPartitionError, kafka_errors.OffsetOutOfRangeError)
# A bit flipped on the broker's disk, a compression we do not have, a header key not in UTF-8.
_DAMAGE = (
    kafka_errors.CorruptRecordException, kafka_errors.UnsupportedCodecError, UnicodeDecodeError,
)  # fmt: skip
_AROUND_MAX = 500  # records that one fetch over damage brings, where the caller names no bound


class KafkaSettings(BaseModel):
    """Where Kafka is."""

    model_config = ConfigDict(extra="forbid")

    bootstrap: str = "127.0.0.1:9092"


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


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
        raise _ours(error) from error


async def _start(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    """Connect. Raises Retriable while no broker answers; a cancelled start leaves nothing."""
    try:
        with _translated():
            async with asyncio.timeout(_START_DEADLINE_S):
                await client.start()
    except BaseException:
        await _stop_quietly(client)
        raise


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
        await _start(producer)
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
        with _translated():
            # All topics first: a caller who repeats a send that failed half-way says things twice.
            for topic, number in {(record.topic, record.partition) for record in records}:
                if number not in await producer.partitions_for(topic):
                    raise Permanent(
                        f"Kafka: topic {topic} has no partition {number}; the registry has another"
                        " number of partitions than `sizao migrate` made"
                    )
            for number, record in enumerate(records, 1):
                acknowledgements += [await _handed_over(producer, record)]
                if number % _TURN_RECORDS == 0:
                    await asyncio.sleep(0)
            for acknowledgement in acknowledgements:
                await acknowledgement

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
                record.topic, value=record.value, key=record.key, partition=record.partition,
                timestamp_ms=record.timestamp_ms, headers=list(record.headers),
            )  # fmt: skip
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
        self._stands: dict[Partition, records_of.Stand] = {}

    async def start(self) -> None:
        """Connect and assign. Raises Retriable while no broker answers."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.bootstrap, client_id=self._client_id,
            group_id=self._group, enable_auto_commit=False, auto_offset_reset="none",
            fetch_min_bytes=self._fetch_bytes_min, fetch_max_wait_ms=500,
            max_partition_fetch_bytes=_FETCH_BYTES, fetch_max_bytes=_FETCH_TOTAL_BYTES,
            request_timeout_ms=_REQUEST_TIMEOUT_MS, retry_backoff_ms=_RETRY_BACKOFF_MS,
            metadata_max_age_ms=_METADATA_AGE_MS,
        )  # fmt: skip
        await _start(consumer)
        consumer.assign(self.partitions)
        self._consumer = consumer

    @property
    def _started(self) -> AIOKafkaConsumer:
        assert self._consumer is not None, "start() first"
        return self._consumer

    async def fetch(self, wait_ms: int, records_max: int | None = None) -> list[Incoming]:
        """Up to `records_max` records; [] after `wait_ms` without one.

        A record that cannot be read comes without a value (see sizao.records). Raises OffsetGone
        with the partitions whose position is not in the log.
        """
        try:
            records = await self._get(wait_ms, records_max)
        except _DAMAGE:
            records = await self._around_damage(records_max or _AROUND_MAX)
        for record in records:
            self._stands[record.topic, record.partition] = record.offset + 1, record.timestamp_ms
        return records

    async def _get(self, wait_ms: int, records_max: int | None) -> list[Incoming]:
        try:
            batches = await self._started.getmany(timeout_ms=wait_ms, max_records=records_max)
        except _DAMAGE:
            raise
        except _GONE as error:
            raise OffsetGone([_pair(tp) for tp in _named(error, self.partitions)]) from error
        except kafka_errors.KafkaError as error:
            raise _ours(error) from error
        return [_incoming(record) for batch in batches.values() for record in batch]

    async def _around_damage(self, records_max: int) -> list[Incoming]:
        """Cancelled or disturbed, nothing is lost: the fetch that failed may have taken records of
        any partition, so first of all they go back to where they stand.
        """
        for pair, (offset, _) in self._stands.items():
            self._started.seek(TopicPartition(*pair), offset)
        alone = partial(Reader, self._settings, client_id=self._client_id)
        found = await records_of.around_damage(alone, self._stands, await self.ends(), records_max)
        for record in found:
            self._started.seek(TopicPartition(record.topic, record.partition), record.offset + 1)
        return found

    async def at(self, offset: int) -> Incoming | None:
        """The record at `offset` of the only partition; None where it cannot be read."""
        self._started.seek(self.partitions[0], offset)
        try:
            for record in await self._get(_REQUEST_TIMEOUT_MS, 1):
                return record
        except _DAMAGE:
            return None
        raise Retriable(f"Kafka: nothing came at {offset} of {self.partitions}")

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from `offset`."""
        self._started.seek(TopicPartition(*partition), offset)
        self._stands[partition] = offset, 0

    async def starts(self) -> dict[Partition, int]:
        """First offset still in the log of each partition."""
        with _translated():
            found = await self._started.beginning_offsets(self.partitions)
        return {_pair(partition): offset for partition, offset in found.items()}

    async def ends(self) -> dict[Partition, int]:
        """Offset after the newest record of each partition."""
        with _translated():
            found = await self._started.end_offsets(self.partitions)
        return {_pair(partition): offset for partition, offset in found.items()}

    async def offsets_at(self, times_ms: Mapping[Partition, int]) -> dict[Partition, int | None]:
        """First offset whose record came at or after a time; None where there is none."""
        wanted = {TopicPartition(*partition): at for partition, at in times_ms.items()}
        with _translated():
            found = await self._started.offsets_for_times(wanted)
        return {_pair(tp): None if place is None else place.offset for tp, place in found.items()}

    async def committed(self) -> dict[Partition, int | None]:
        """The group's committed offset of each partition; None where it never committed."""
        with _translated():
            async with asyncio.timeout(_GROUP_DEADLINE_S):
                return {_pair(tp): await self._started.committed(tp) for tp in self.partitions}

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Store the next offset to read of each partition under the group, within 5 s."""
        with _translated():
            async with asyncio.timeout(_GROUP_DEADLINE_S):
                await self._started.commit(
                    {TopicPartition(*partition): offset for partition, offset in offsets.items()}
                )

    async def stop(self) -> None:
        """Close within 5 s, whatever the broker does."""
        if self._consumer is not None:
            await _stop_quietly(self._consumer)
            self._consumer = None


def _incoming(record: ConsumerRecord) -> Incoming:
    return Incoming(
        topic=record.topic, partition=record.partition, offset=record.offset, value=record.value,
        headers=record.headers, key=record.key, timestamp_ms=record.timestamp,
    )  # fmt: skip


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
    await _admin(settings, lambda admin: admin.list_topics())


async def make_topics(
    settings: KafkaSettings, *, partitions: int, replication: int = 1
) -> list[str]:
    """Create what is missing of `topics.TOPICS`; returns the names made now. Idempotent.

    Raises BadInput, and makes nothing, where one has another number of partitions.
    """

    async def make(admin: AIOKafkaAdminClient) -> list[str]:
        found = await admin.describe_topics()
        counts = {each["topic"]: len(each["partitions"]) for each in found}
        for name in {topic.name for topic in TOPICS} & counts.keys():
            if counts[name] != partitions:
                raise BadInput(
                    f"Kafka: topic {name} has {counts[name]} partitions, the district {partitions}"
                    f"; give --partitions {counts[name]} at the first run, or delete the topic"
                )
        missing = [topic for topic in TOPICS if topic.name not in counts]
        if missing:
            new = [_new_topic(topic, partitions, replication) for topic in missing]
            answer = await admin.create_topics(new)
            for name, code, *_ in answer.topic_errors:
                if code not in {0, kafka_errors.TopicAlreadyExistsError.errno}:
                    raise Permanent(f"Kafka: topic {name}: {kafka_errors.for_code(code)!r}")
        return [topic.name for topic in missing]

    return await _admin(settings, make)


def _new_topic(topic: Topic, partitions: int, replication: int) -> NewTopic:
    config = {
        "retention.ms": str(topic.retention_ms),
        "retention.bytes": str(topic.retention_bytes),
        "max.message.bytes": str(topic.record_bytes_max),
        "message.timestamp.type": "CreateTime",
        # A bridge's stamps never go back: once its clock was an hour ahead, so are they until the
        # wall catches up. Kafka's default refuses those for good, and ended the bridge each time.
        "message.timestamp.before.max.ms": _ANY_MS,
        "message.timestamp.after.max.ms": _ANY_MS,
    }
    return NewTopic(topic.name, partitions, replication, topic_configs=config)


async def _admin(
    settings: KafkaSettings, call: Callable[[AIOKafkaAdminClient], Awaitable[list[str]]]
) -> list[str]:
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS
    )
    try:
        with _translated():
            async with asyncio.timeout(_START_DEADLINE_S):
                await admin.start()
                return await call(admin)
    finally:
        with suppress(TimeoutError, kafka_errors.KafkaError, OSError):
            async with asyncio.timeout(_STOP_DEADLINE_S):
                await admin.close()
