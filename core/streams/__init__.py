"""What lies between a socket and the bytes of MQTT: framing, without sockets."""
