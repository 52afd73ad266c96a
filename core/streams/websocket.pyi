class FrameWalk:
    """The WebSocket frames of one client without a socket: what the shards do with them, for tests."""

    @property
    def is_over(self) -> bool:
        """The client has closed, or sent what RFC 6455 forbids; close_code says which."""

    @property
    def close_code(self) -> int:
        """Of the close frame that is due; 1005: one without a code."""

    def take(self, data: bytes) -> bytes:
        """The payload bytes among data, which came from the client. Any cut will do."""

    def give(self, payload: bytes) -> bytes:
        """What goes out when payload waits: pongs that are due, then payload as one frame. Nothing after close."""

    def close(self) -> bytes:
        """The close frame, the first time."""
