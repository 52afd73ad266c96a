"""Data structures that know nothing of MQTT: hash tables, reclamation, timing wheel, byte segments."""
