"""spec.py and spec.pxd hold the same numbers."""

import re
from enum import IntEnum
from pathlib import Path

import pytest

from rookery.core.wire import spec

DECLARATIONS = (Path(spec.__file__).parent / "spec.pxd").read_text()
PREFIXES = {"PacketType": "PACKET_", "PropertyId": "PROPERTY_", "ReasonCode": "REASON_", "ConnectReturnCode": "RETURN_"}


def declared(enum_name: str) -> dict[str, int]:
    """The members of one `cdef enum` of spec.pxd; those of the anonymous one for an empty name."""
    body = re.search(rf"^cdef enum *{enum_name}:.*\n((?: +.*\n)+)", DECLARATIONS, re.MULTILINE)
    assert body is not None, f"spec.pxd has no enum {enum_name!r}"
    return {name: int(value, 0) for name, value in re.findall(r"^ +(\w+) = (\w+)", body[1], re.MULTILINE)}


@pytest.mark.parametrize(
    "enum", [spec.ProtocolVersion, spec.PacketType, spec.PropertyId, spec.ReasonCode, spec.ConnectReturnCode]
)
def test_enum_is_the_same_in_both(enum: type[IntEnum]) -> None:
    prefix = PREFIXES.get(enum.__name__, "")
    members = {prefix + name: int(member) for name, member in enum.__members__.items()}
    assert declared(enum.__name__) == members
    assert members


def test_constants_are_the_same_in_both() -> None:
    constants = declared("")
    assert constants == {name: getattr(spec, name) for name in constants}
    assert constants.keys() == {name for name in vars(spec) if name.isupper()}


def test_every_number_of_the_pxd_is_compared() -> None:
    compared = sum(len(declared(name)) for name in ("ProtocolVersion", *PREFIXES, ""))
    assert compared == len(re.findall(r"^ +\w+ = ", DECLARATIONS, re.MULTILINE))
