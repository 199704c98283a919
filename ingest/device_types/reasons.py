"""Why something a device said did not become a reading: the closed label of every counter."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """One reason a payload or one of its fields was refused."""

    # The payload as a whole.
    TOO_LARGE = "too_large"  # more bytes than any device type may send
    TOO_MANY_ROWS = "too_many_rows"  # a batch longer than any gateway's
    NOT_JSON = "not_json"  # no JSON, not UTF-8, or nested beyond reason
    NOT_DECODED = "not_decoded"  # not of its format: layout, SenML, uplink, text, or by its codec
    # Who speaks, and where.
    UNKNOWN_TOPIC = "unknown_topic"  # no device type of this lane has such a topic
    UNKNOWN_CARRIER = "unknown_carrier"
    REVOKED = "revoked"  # its carrier's password is not to be trusted any more
    UNKNOWN_DEVICE = "unknown_device"  # nobody's roster has this key
    NOT_YOURS = "not_yours"  # the key is in another carrier's roster
    NOT_IN_SERVICE = "not_in_service"  # planned or retired
    WRONG_TOPIC = "wrong_topic"  # the device's type does not speak on this topic
    BROKEN_TYPE = "broken_type"  # the registry's document of its type does not compile
    TOO_OFTEN = "too_often"  # beyond what one device or carrier may say (ingest/noisy.py)
    NO_POINT = "no_point"  # the registry has no point for this quantity of this device
    # One field; the others pass.
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"  # a string, boolean, object where a number is due, or the reverse
    NOT_FINITE = "not_finite"  # NaN or Infinity
    OUT_OF_RANGE = "out_of_range"
    UNKNOWN_STATE = "unknown_state"  # not in the type's table of states
    UNEQUAL_COLUMNS = "unequal_columns"  # an array that is not as long as that of the keys
    SENSOR_BROKEN = "sensor_broken"  # the value by which the device says so
    AMBIGUOUS = "ambiguous"  # two elements of a list fit and differ
    WRONG_UNIT = "wrong_unit"  # the payload names another unit than its type
    NO_GAS = "no_gas"  # ppm of a gas that the registry does not name
    BAD_TIME = "bad_time"  # not of the format; arrival stands instead
