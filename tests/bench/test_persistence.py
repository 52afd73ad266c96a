"""The measurement of persistent sessions runs to its end."""

from click.testing import CliRunner

from rookery.bench.persistence import main


def test_drained_sessions_are_told_in_a_table() -> None:
    result = CliRunner().invoke(main, ["--case", "drain-q1", "--broker", "never", "--rounds", "1"])
    assert result.exit_code == 0, result.output
    rows = [line.split(" | ") for line in result.output.splitlines() if line.startswith("| drain-q1 | ")]
    assert len(rows) == 1, result.output
    # Case, messages per second, p99 (none here), CPU per message.
    assert len(rows[0]) == 4
    assert rows[0][1][0].isdigit()
