"""The measurement of logins runs to its end."""

from click.testing import CliRunner

from rookery.bench.logins import main


def test_all_log_in_and_another_client_is_watched() -> None:
    result = CliRunner().invoke(main, ["--devices", "20", "--strangers", "2", "--quiet-s", "0.1"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "quiet",
        "20 devices, cheap hashes, first time",
        *["20 devices, remembered"] * 3,
        "2 strangers, Argon2",
    ]
    assert all("p99" in line for line in lines if "first time" not in line)
