"""The durable log: commits of 1, 100 and 1000 records of 300 bytes, reading a million of them back, checksums.

The folder is pytest's temporary one: `--basetemp` chooses the disk that is measured. What a sync of that disk costs by
itself is measured beside it, for it bounds the commits of one record.
"""

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from rookery.bench.log_loops import Appender
from rookery.core.log.durable_log import DurableLog
from rookery.core.structures.checksum import checksum, checksum_by_table

BODY_SIZE = 300
RECORDS = 1_000_000
SYNCS = 500


@contextmanager
def running(folder: Path, sync: str) -> Iterator[DurableLog]:
    log = DurableLog(folder, sync=sync)
    log.skip()
    thread = threading.Thread(target=log.run)
    thread.start()
    try:
        yield log
    finally:
        log.stop()
        thread.join()


@pytest.mark.parametrize("sync", ["always", "never"])
@pytest.mark.parametrize(("records", "commits"), [(1, 4_000), (100, 2_000), (1_000, 1_000)])
def test_commit(benchmark: BenchmarkFixture, tmp_path: Path, sync: str, records: int, commits: int) -> None:
    with running(tmp_path, sync) as log:
        appender = Appender(log)
        appender.commit(100, records, BODY_SIZE)
        measured: list[list[int]] = []
        benchmark.pedantic(  # type: ignore[no-untyped-call]  # the fixture's one method without types
            lambda: measured.append(appender.commit(commits, records, BODY_SIZE)), rounds=3
        )
        assert log.state().error == 0
    spent = sorted(ns for round_ns in measured for ns in round_ns)
    rates = sorted(records * commits * 1e9 / sum(round_ns) for round_ns in measured)
    print(
        f"\n{sync}, {records} per commit: {rates[-1]:,.0f} records/s best, {statistics.median(rates):,.0f} median;"
        f" a commit takes {spent[len(spent) // 2] / 1e3:.0f} us median,"
        f" {spent[len(spent) * 99 // 100] / 1e3:.0f} us p99, {spent[-1] / 1e3:.0f} us at most"
    )


def test_sync_alone(tmp_path: Path) -> None:
    spent = []
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(descriptor, 0, SYNCS * 4096)
    os.fsync(descriptor)
    for index in range(SYNCS):
        os.pwrite(descriptor, bytes(BODY_SIZE), index * BODY_SIZE)
        before = time.perf_counter_ns()
        os.fdatasync(descriptor)
        spent.append(time.perf_counter_ns() - before)
    os.close(descriptor)
    print(f"\nfdatasync alone: {statistics.median(spent) / 1e3:.0f} us median, {max(spent) / 1e3:.0f} us at most")


def test_read_back(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    with running(tmp_path, "never") as log:
        Appender(log).commit(RECORDS // 1_000, 1_000, BODY_SIZE)
    size = sum(path.stat().st_size for path in tmp_path.glob("*.log"))
    # A new log each time: a start reads everything, and the segments are in the page cache.
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        lambda log: log.skip(), setup=lambda: ((DurableLog(tmp_path),), {}), rounds=5
    )
    assert len(list(tmp_path.glob("*.log"))) == -(-size // (64 << 20))
    if benchmark.stats is not None:
        shortest = benchmark.stats["min"]
        print(f"\nread back: {RECORDS:,} records, {size / 1e6:.0f} MB in {shortest:.3f} s")


@pytest.mark.parametrize("size", [64, 309, 65_536])
@pytest.mark.parametrize("function", [checksum, checksum_by_table])
def test_checksum(benchmark: BenchmarkFixture, function: Callable[[bytes], int], size: int) -> None:
    data = os.urandom(size)
    assert checksum(data) == checksum_by_table(data)
    benchmark(function, data)
    if benchmark.stats is not None:
        name = getattr(function, "__name__", "checksum")
        print(f"\n{name}: {size} bytes, {size / benchmark.stats['min'] / 1e9:.2f} GB/s")
