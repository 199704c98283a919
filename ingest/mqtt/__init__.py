"""The only door to MQTT, both ways."""
