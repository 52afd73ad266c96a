"""TLS: contexts made of files, handshakes, and the border to the core, which goes on with the same OpenSSL."""
