"""What `sizao bridge` reads of the settings file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ingest.credentials import window
from ingest.mqtt.settings import MOUNT_POINT, MqttSettings
from sizao.db import DatabaseSettings
from sizao.frame import WRITER_BYTES_MAX
from sizao.kafka import KafkaSettings
from sizao.settings import HttpSettings, WatchDisks

_LANE_BYTES = len(".telemetry")


class Bound(BaseModel):
    """How much a lane holds that its broker has not been told of; beyond it, it stops reading."""

    model_config = ConfigDict(extra="forbid")

    messages: int = Field(gt=0, le=60_000, description="below the broker's window of 65,535")
    megabytes: int = Field(default=16, gt=0, le=256)


class TelemetryBudget(BaseModel):
    """Beyond it, what one device or carrier says by telemetry is not decoded (ingest/noisy.py).

    The alarm lane has none.
    """

    model_config = ConfigDict(extra="forbid")

    # The fastest sensor of a district measures once a second; a hundredth of what the lane can
    # carry does nobody harm. A full bucket holds a day of such readings, which a device that was
    # off line says in one go, and is a few seconds of the lane.
    device_per_s: float = Field(default=20.0, gt=0, le=100_000)
    device_burst: int = Field(default=100_000, ge=1_000, le=10_000_000)
    # Of a gateway with payloads for many devices: a full bucket holds a day of batches each second.
    # A platform may besides speak for each of its roster every 10 s, and bring a day of readings
    # each quarter of an hour of each.
    carrier_per_s: float = Field(default=200.0, gt=0, le=100_000)
    carrier_burst: int = Field(default=100_000, ge=1_000, le=10_000_000)


class HandoverSection(BaseModel):
    """Where the bridge takes an alarm while Kafka is silent (docs/design.md, section 2)."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(
        pattern=r"^https?://[^/?#@\s]+$", max_length=200, description="of alert: http://host:port"
    )
    secret_file: Path = Field(description="whsec_ and base64, the same as alert's")


class BridgeSection(BaseModel):
    """`bridge:` of the settings file."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(
        default="b0",
        pattern=r"^[a-z0-9_-]+$",
        max_length=WRITER_BYTES_MAX - _LANE_BYTES,
        description="its name for life: MQTT client ids and the frames' writer come from it",
    )
    standby: bool = Field(
        default=False,
        description="a second process with the id of another: waits until that one is silent",
    )
    standby_s: float = Field(default=10.0, ge=3, le=600, description="silent for so long")
    http: HttpSettings = HttpSettings()
    state: Path = Field(
        default=Path(), description="registry cache and clocks; left out: beside this file"
    )
    device_types: Path | None = Field(
        default=None, description="an operator's own folder of device types, checked at first start"
    )
    handover: HandoverSection | None = Field(
        default=None, description="left out, an alarm waits until Kafka is back"
    )
    tick_ms: int = Field(default=20, ge=5, le=1000, description="of a machine that keeps up")
    tick_busy_ms: int = Field(default=50, ge=5, le=1000, description="of one that does not")
    # An alarm is 200 bytes: 50,000 of them fit into the 16 MB, and 10 % of a district's 400,000
    # devices may alarm at once. Telemetry has the broker's disk behind it and gains nothing by
    # waiting here: 20,000 are one second of the busiest district.
    alarm_bound: Bound = Bound(messages=50_000)
    telemetry_bound: Bound = Bound(messages=20_000)
    telemetry_budget: TelemetryBudget = TelemetryBudget()


def _window(text: str) -> str:
    window(text)
    return text


class MqttFilesSection(BaseModel):
    """`mqtt_files:` of the settings file: what the broker reads of users and their rights."""

    model_config = ConfigDict(extra="forbid")

    passwords: Path = Field(description="Mosquitto's password_file")
    acl: Path = Field(description="Mosquitto's acl_file")
    window: Annotated[str, AfterValidator(_window)] = Field(
        default="02:00-04:00", description="when new credentials are put in force"
    )
    utc_offset_min: int = Field(default=480, ge=-840, le=840, description="of the window's clock")
    reload: list[str] = Field(
        default=["systemctl", "restart", "mosquitto"],
        min_length=1,
        max_length=64,
        description="makes the broker read them; no SIGHUP (deploy/README.md)",
    )
    reload_s: int = Field(default=60, ge=1, le=600, description="within so long it is back")
    mount_points: list[Annotated[str, Field(pattern=MOUNT_POINT)]] = Field(
        default=[""],
        min_length=1,
        max_length=16,
        description="of the broker's listeners for devices, such as [s0/, s1/] of two shards",
    )
    device_host: str = Field(default="", description="of the broker for devices; else mqtt.host")
    device_port: int | None = Field(default=None, ge=1, le=65535, description="else mqtt.port")


class CredentialSettings(BaseModel):
    """Sections of the file that `sizao devices credentials` reads."""

    database: DatabaseSettings = DatabaseSettings()
    mqtt: MqttSettings = MqttSettings()
    mqtt_files: MqttFilesSection


class BridgeSettings(BaseModel):
    """Sections of the file that the bridge reads."""

    kafka: KafkaSettings = KafkaSettings()
    database: DatabaseSettings = DatabaseSettings()
    mqtt: MqttSettings = MqttSettings()
    bridge: BridgeSection = BridgeSection()
    watch_disks: WatchDisks = WatchDisks()

    @model_validator(mode="after")
    def _a_pair_that_is_told(self) -> BridgeSettings:
        if self.bridge.standby and self.mqtt.version != "5":
            raise ValueError(
                "bridge.standby needs mqtt.version 5: 3.1.1 does not say who took the session"
            )
        return self
