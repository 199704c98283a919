"""MQTT in, frames out: device types, decoding, the bridge, the archive."""
