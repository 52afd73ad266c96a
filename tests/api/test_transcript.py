"""The transcript of docs/http-api.md, typed again: curl says the same."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from support.service import Service


def transcript(page: str) -> Iterator[tuple[str, str]]:
    """The commands and what came back."""
    block = page.partition("```console\n")[2].partition("```")[0]
    for part in block.split("$ curl ")[1:]:
        command, _, output = part.partition("\n")
        yield f"curl {command}", output


@pytest.fixture
def page(pytestconfig: pytest.Config) -> str:
    return Path(pytestconfig.rootpath, "docs", "http-api.md").read_text(encoding="utf-8")


async def test_transcript_of_the_page_is_what_happens(service: Service, page: str) -> None:
    steps = list(transcript(page))
    assert len(steps) > 15
    async with service.connect(client_id="dev1", username="acme/bob") as client:
        await client.subscribe("a/+", qos=1)
        for command, output in steps:
            done = await trio.run_process(
                ["bash", "-c", command], env={"API": f"http://{service.api}", "PATH": "/usr/bin:/bin"}, stdin=b"",
                capture_stdout=True, capture_stderr=True, check=False,
            )  # fmt: skip
            assert done.stdout.decode().rstrip("\n") == output.rstrip("\n"), command


@pytest.fixture(autouse=True)
def need_curl() -> None:
    """.ci/run installs it."""
    subprocess.run(["curl", "--version"], capture_output=True, check=True)
