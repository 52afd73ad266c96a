"""The measurement of what a tenant costs runs to its end."""

import re

from click.testing import CliRunner

from rookery.bench.tenants import main


def test_same_clients_are_measured_together_and_apart() -> None:
    result = CliRunner().invoke(main, ["--tenants", "3", "--rounds", "1"])
    assert result.exit_code == 0, result.output
    together, apart, resident, allocated = result.output.splitlines()
    assert together.startswith("30 clients of one tenant: ")
    assert apart.startswith("30 clients of 3 tenants: ")
    assert re.fullmatch(r"a tenant: -?\d+ bytes of resident memory, -?\d+ to -?\d+", resident)
    match = re.fullmatch(r"a tenant: (\d+) bytes allocated by a shard", allocated)
    assert match is not None
    assert 0 < int(match[1]) <= 4096
