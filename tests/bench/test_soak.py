"""The soak runs to its end and says what has grown."""

from click.testing import CliRunner

from rookery.bench.soak import Sample, excess, main


def test_short_soak_loses_nothing() -> None:
    # The tolerance is wide: so short a run says nothing about growth.
    arguments = ["--seconds", "0.5", "--sessions", "10", "--messages", "10", "--tolerance", "10"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert " messages, none lost\n" in result.output
    assert "GROWN" not in result.output


def test_highest_of_the_end_is_compared_with_the_highest_after_the_warming_up() -> None:
    samples = [Sample(at_s=at_s, resident=int(at_s), disk=100 - int(at_s), files=7) for at_s in range(100)]
    assert excess(samples, 100.0) == {"resident": (39, 99), "disk": (80, 20), "files": (7, 7)}
