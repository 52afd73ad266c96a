"""The measurement of handshakes runs to its end."""

import re

from click.testing import CliRunner

from rookery.bench.handshakes import main


def test_client_is_watched_without_and_beside_a_storm() -> None:
    result = CliRunner().invoke(main, ["--rounds", "1", "--seconds", "0.2"])
    assert result.exit_code == 0, result.output
    _, _, mosquitto, rookery = result.output.splitlines()
    for name, line in (("mosquitto", mosquitto), ("rookery", rookery)):
        found = re.fullmatch(rf"\| {name} \| (\d+) (\| [\d.]+ ){{4}}\|", line)
        assert found is not None, line
        assert int(found[1]) > 0
