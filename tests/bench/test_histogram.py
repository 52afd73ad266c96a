"""The latency histogram against a sorted list."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery.bench.histogram import LatencyHistogram

WIDTH = 1 / 64
LONGEST_NS = 2**42 - 1

values_ns = st.integers(0, LONGEST_NS)


def exact_percentile(values: list[int], percent: float) -> int:
    ordered = sorted(values)
    return ordered[max(1, math.ceil(len(values) * percent / 100)) - 1]


@given(st.lists(values_ns, min_size=1), st.floats(0, 100))
def test_percentile_is_exact_up_to_the_width_of_a_bucket(values: list[int], percent: float) -> None:
    histogram = LatencyHistogram()
    for value in values:
        histogram.record(value)
    exact = exact_percentile(values, percent)
    assert exact <= histogram.percentile(percent) <= exact * (1 + WIDTH)


@given(values_ns, st.integers(1, 1000))
def test_a_value_recorded_several_times_counts_as_often(value: int, times: int) -> None:
    histogram = LatencyHistogram()
    histogram.record(value, times)
    assert histogram.count == times
    assert histogram.percentile(50) == value


@given(st.lists(values_ns, min_size=1))
def test_the_largest_value_is_kept_exactly(values: list[int]) -> None:
    histogram = LatencyHistogram()
    for value in values:
        histogram.record(value)
    assert histogram.largest_ns == histogram.percentile(100) == max(values)


@pytest.mark.parametrize("value", [2**42, 2**63, 2**64 - 1])
def test_what_is_longer_than_the_last_bucket_is_counted_there(value: int) -> None:
    histogram = LatencyHistogram()
    histogram.record(value)
    assert histogram.count == 1
    assert histogram.largest_ns == value
    assert histogram.percentile(50) >= LONGEST_NS


def test_an_empty_histogram_has_percentile_zero() -> None:
    assert LatencyHistogram().percentile(99) == 0


@pytest.mark.parametrize("percent", [-1, 100.5])
def test_a_percentile_outside_0_to_100_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="not a percentage"):
        LatencyHistogram().percentile(percent)
