"""HOST:PORT, or the path of a Unix socket, as it stands in the configuration and in the ready line."""

import ipaddress
from dataclasses import dataclass

PORT_MAXIMUM = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener binds; port 0 lets the kernel choose."""

    host: str  # a name, an IPv4 or an IPv6 address (without brackets), or the absolute path of a Unix socket
    port: int  # 0 with a path

    def __str__(self) -> str:
        if self.is_path:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_path(self) -> bool:
        """Is it a Unix socket?"""
        return self.host.startswith("/")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it. Names other than localhost count as reachable from outside."""
        if self.is_path:
            return True
        try:
            return ipaddress.ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """The address that `HOST:PORT` or `[IPV6]:PORT` names. Raises ValueError that says what was expected."""
        host, separator, port = text.strip().rpartition(":")
        if not separator or not (port.isascii() and port.isdigit()):
            raise ValueError(f"expected HOST:PORT, got {text!r}")
        if int(port) > PORT_MAXIMUM:
            raise ValueError(f"the port of {text!r} is out of range; valid is 0 to {PORT_MAXIMUM}")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"an IPv6 address stands in brackets, as in [::1]:{port}; got {text!r}")
        if not host or any(character.isspace() or character in "/[]" for character in host):
            raise ValueError(f"{text!r} names no host; 0.0.0.0:{port} or [::]:{port} stands for every address")
        return cls(host, int(port))
