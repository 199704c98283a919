"""`mqtt:` of the settings file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MOUNT_POINT = r"^([A-Za-z0-9_-]{1,32}/)?$"


class TlsSettings(BaseModel):
    """TLS towards the broker, whose certificate is always checked against `mqtt.host`."""

    model_config = ConfigDict(extra="forbid")

    ca_file: Path | None = Field(default=None, description="left out: the system's authorities")
    certificate_file: Path | None = Field(
        default=None, description="ours, PEM, for a broker that asks for one; with its chain"
    )
    key_file: Path | None = Field(default=None, description="of certificate_file, not encrypted")

    @model_validator(mode="after")
    def _a_pair(self) -> TlsSettings:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together; got one of them")
        return self


class MqttSettings(BaseModel):
    """The broker. The password comes from a file, never from here or the log."""

    model_config = ConfigDict(extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=1883, ge=1, le=65535)
    version: Annotated[Literal["5", "3.1.1"], BeforeValidator(str)] = Field(
        default="5", description="3.1.1 for a broker that speaks no MQTT 5"
    )
    username: str = Field(default="bridge", description="empty: none is sent")
    password_file: Path | None = None
    keepalive_s: int = Field(default=30, ge=4, le=600)
    mount_point: str = Field(
        default="",
        pattern=MOUNT_POINT,
        description="of the listener whose devices are this bridge's shard, such as s0/",
    )
    watch: bool = Field(
        default=True, description="its $SYS counters; false for a broker that has none"
    )
    tls: TlsSettings | None = None
    # A payload of 1 MiB, the longest topic, and what a sender may have put beside it: as much as
    # the broker takes in (max_packet_size in deploy/mosquitto/mosquitto.conf), and some more.
    packet_bytes_max: int = Field(
        default=1_310_720,
        ge=65_536,
        le=16 << 20,
        description="a larger packet of the broker ends the connection",
    )

    @model_validator(mode="after")
    def _a_user(self) -> MqttSettings:
        if self.password_file is not None and not self.username:
            raise ValueError("password_file needs a username")
        return self
