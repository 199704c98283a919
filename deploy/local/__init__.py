"""Real Mosquitto, Kafka and PostgreSQL, started privately for a person, a test or a benchmark."""
