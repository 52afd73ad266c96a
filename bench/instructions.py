"""Instructions per operation of each hot path of a checkout, counted by callgrind.

Unlike times they repeat: two counts of one build differ by less than a thousandth, on a busy machine, too. What they do
not see is the kernel, memory that is far away, and waiting.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from .hot_paths import MARKER

PATHS_FILE = Path(__file__).with_name("hot_paths.py")
# It takes some 15 s on a machine of 2020; a hundred times as long is a hang.
TIMEOUT_S = 1500
# Of each size: more than a path has at once.
CACHED_BLOCKS = 4096
_TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)


class CannotCount(Exception):
    """Counting is not possible here; the text says what to do about it."""


def count_instructions(checkout: Path) -> dict[str, float]:
    """Instructions per operation by path, of the modules that were built in the checkout, in the order of hot_paths.py.

    Raises CannotCount without valgrind, if the paths cannot be run, or if Python takes `rookery` from elsewhere.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise CannotCount("valgrind is missing: install the package of this name (apt-get install valgrind)")
    with tempfile.TemporaryDirectory(prefix="rookery-guard-") as folder:
        dumps = Path(folder, "dump")
        pieces_file = Path(folder, "pieces.json")
        # Python's own path would find the installed package first where it is another than that of the checkout.
        environment = {
            **os.environ,
            "PYTHONPATH": str(checkout / "build" / "namespace"),
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            # What malloc takes depends on what all others have freed before: a path that allocates for each message
            # was 3 % longer because another path before it had changed. From its cache it always takes the same.
            "GLIBC_TUNABLES": f"glibc.malloc.tcache_count={CACHED_BLOCKS}",
        }
        command = [
            valgrind,
            "--quiet",
            "--tool=callgrind",
            f"--callgrind-out-file={dumps}",
            f"--dump-before={MARKER}",
            sys.executable,
            str(PATHS_FILE),
            str(pieces_file),
        ]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
        if ended.returncode:
            raise CannotCount(f"the hot paths of {checkout} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
        found = json.loads(pieces_file.read_text())
        if not Path(found["engine"]).resolve().is_relative_to(checkout.resolve()):
            raise CannotCount(f"rookery was taken from {found['engine']}, not from {checkout}: is it built?")
        totals = {}
        for number in range(1, len(found["pieces"]) + 1):
            file = Path(f"{dumps}.{number}")
            if not file.exists():
                raise CannotCount(f"callgrind wrote {number - 1} of {len(found['pieces'])} dumps")
            totals[number] = _total(file.read_text())
        return per_operation(found["pieces"], totals)


def _total(dump: str) -> int:
    match = _TOTALS.search(dump)
    if match is None:
        raise CannotCount("a dump of callgrind has no totals")
    return int(match[1])


def per_operation(pieces: list[tuple[str | None, int]], totals: Mapping[int, int]) -> dict[str, float]:
    """Add up the pieces of each path; totals has the instructions of each piece, numbered from 1."""
    instructions: dict[str, int] = defaultdict(int)
    operations: dict[str, int] = defaultdict(int)
    for number, (path, count) in enumerate(pieces, start=1):
        if path is not None:
            instructions[path] += totals[number]
            operations[path] += count
    return {path: instructions[path] / operations[path] for path in instructions}
