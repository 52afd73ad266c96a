"""HTTP in, one call of the broker, HTTP out; and the place where the process is put together."""
