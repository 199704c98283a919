-- Rejects that have become readings (`sizao rejects replay`), so that none becomes two.

-- A batch of frames: noted before Kafka gets them, acknowledged after. Whether one that never was
-- lies in the log is for the next replay to find out. The newest row is kept for good: it holds the
-- writer's sequence and clock, which never go back.
CREATE TABLE replay (
    first_sequence bigint PRIMARY KEY,
    last_sequence bigint NOT NULL CHECK (last_sequence >= first_sequence),
    began_us bigint NOT NULL,     -- arrival of its first frame and of its last, microseconds UTC
    received_us bigint NOT NULL,
    frames jsonb NOT NULL,        -- [[topic, partition, sequence], ...]
    acknowledged boolean NOT NULL DEFAULT false
);

-- `arrived_us`: in a log that was made anew, another reject lies at the same offset. `readings`:
-- what the batch held of it, (point uint32, event_us int64) each, little-endian.
CREATE TABLE reject_replayed (
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    arrived_us bigint NOT NULL,
    batch bigint NOT NULL REFERENCES replay ON DELETE CASCADE,
    readings bytea NOT NULL,
    PRIMARY KEY (partition, record_offset, arrived_us, batch)
);
CREATE INDEX reject_replayed_batch ON reject_replayed (batch);
CREATE INDEX reject_replayed_arrived ON reject_replayed (arrived_us);
