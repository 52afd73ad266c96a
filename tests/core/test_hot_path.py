"""The rooms that a message goes through hold no Python object and no GIL: the compiler proves it, this file asks it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("structures", "log", "wire", "streams", "topics", "permissions", "sessions", "shards")
# What an import runs and what builds a Python face may hold the GIL; these rooms have neither.
ROOMS_WITHOUT_PYTHON = ("sessions", "shards")
FUNCTION = re.compile(
    r"^cdef (?!class|struct|enum|extern|union)[^=\n]*\((?:[^()]|\([^()]*\))*\)([^:\n]*):",
    re.MULTILINE,
)


def sources(rooms: tuple[str, ...]) -> list[Path]:
    return sorted(path for room in rooms for path in (ROOT / "core" / room).glob("*.pyx"))


@pytest.mark.parametrize("source", sources(ROOMS_WITHOUT_PYTHON), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_function_runs_without_the_gil(source: Path) -> None:
    endings = [match[1].split() for match in FUNCTION.finditer(source.read_text())]
    assert endings, "no function was found: the pattern of this test is out of date"
    assert [ending for ending in endings if ending != ["noexcept", "nogil"]] == []


def test_compiler_gives_no_performance_hint(tmp_path: Path) -> None:
    # A hint tells of an exception check that takes the GIL: 31 ns, and a wait behind whatever Python is doing.
    package = tmp_path / "rookery"
    shutil.copytree(ROOT / "core", package / "core", ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__"))
    files = [package / path.relative_to(ROOT) for path in sources(ROOMS)]
    result = subprocess.run(
        [sys.executable, "-m", "cython", "-3", "--include-dir", tmp_path, *files],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output[-4000:]
    assert [line for line in output.splitlines() if "performance hint" in line] == []
