"""The measurement of what HTTP does to MQTT runs to its end."""

import subprocess
import sys


def test_latency_alone_and_beside_http_is_measured() -> None:
    options = ["--clients", "4", "--rate", "200", "--seconds", "0.3", "--sessions", "20", "--rounds", "1"]
    options += ["--request", "a busy loop", "--request", "explain"]
    done = subprocess.run(
        [sys.executable, "-m", "rookery.bench.http_isolation", *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["beside it", "---", "nothing", "a busy loop", "nothing", "explain"]
    for figure in rows[3][2:] + rows[5][1:]:
        assert float(figure) > 0
