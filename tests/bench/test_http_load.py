"""The measurement of the HTTP API runs to its end."""

from click.testing import CliRunner

from rookery.bench.http_load import main


def test_requests_batches_and_pages_are_measured() -> None:
    result = CliRunner().invoke(main, ["--seconds", "0.05", "--sessions", "1500"])
    assert result.exit_code == 0, result.output
    assert [line.split(":")[0] for line in result.output.splitlines()] == [
        "GET /healthz",
        "POST /pub",
        "POST /pub to GET /healthz",
        "batches of 10000",
        "pages of 1000 of 1500 sessions",
    ]
