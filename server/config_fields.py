"""What the sections of the configuration are made of: their base class and the types of their fields."""

import re
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, PlainValidator

from .address import Address

UNIX_PATH_MAXIMUM = 107  # bytes, as the kernel has it
COUNT_MAXIMUM = 10_000_000  # connections: more than any machine has descriptors
RATE_MAXIMUM = 1_000_000  # per second

KeyPath = tuple[str, ...]  # ("mqtt", "bind")


class Contradiction(ValueError):
    """What is wrong with fields that are fine one by one; reported under their paths, not under that of the model."""

    def __init__(self, problems: list[tuple[KeyPath, str]]) -> None:
        super().__init__("; ".join(message for _, message in problems))
        self.problems = problems


def _parse_address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected HOST:PORT, got {value!r}")
    return Address.parse(value)


def split_chain(value: object) -> object:
    """The environment has no lists: names with commas between them."""
    return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value


def _parse_bind(value: object) -> Address:
    """Of a listener that may be a Unix socket."""
    if isinstance(value, str) and value.startswith("/"):
        if len(value.encode()) > UNIX_PATH_MAXIMUM or "\0" in value:
            raise ValueError(f"the path of a Unix socket has at most {UNIX_PATH_MAXIMUM} bytes")
        return Address(value, 0)
    return _parse_address(value)


def _parse_mode(value: object) -> object:
    if isinstance(value, str):
        if not re.fullmatch("[0-7]{3,4}", value):
            raise ValueError(f"expected octal digits as 0660, got {value!r}")
        return int(value, 8)
    return value


Chain = Annotated[tuple[str, ...], BeforeValidator(split_chain)]
# Permissions of a file as chmod takes them: "0660".
FileMode = Annotated[int, BeforeValidator(_parse_mode), PlainSerializer(lambda mode: f"{mode:04o}")]
Network = Annotated[IPv4Network | IPv6Network, PlainSerializer(str)]
ListenerBind = Annotated[Address, PlainValidator(_parse_bind), PlainSerializer(str)]
Bind = Annotated[Address, PlainValidator(_parse_address), PlainSerializer(str)]


class Section(BaseModel):
    """What all sections have in common: no unknown keys, no change after the start."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)
