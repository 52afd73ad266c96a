"""Brokers as processes: started, measured, gone."""

import contextlib
import mmap
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rookery.bench import brokers
from rookery.bench.brokers import Broker, BrokerError, launch, mosquitto, on_cpus


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_mosquitto_is_gone_when_the_block_ends() -> None:
    with mosquitto() as broker:
        assert broker.pid is not None
        assert is_alive(broker.pid)
    assert not is_alive(broker.pid)


def test_mosquitto_is_gone_when_its_starter_is_killed(tmp_path: Path) -> None:
    program = (
        "import signal\n"
        "from rookery.bench.brokers import mosquitto\n"
        "with mosquitto() as broker:\n"
        "    print(broker.pid, flush=True)\n"
        "    signal.pause()\n"
    )
    # Killed, it leaves its configuration behind.
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    starter = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
    assert starter.stdout is not None
    with starter.stdout:
        pid = int(starter.stdout.readline())
    # A descriptor of the process becomes readable when it ends, whoever its parent is.
    descriptor = os.pidfd_open(pid)
    try:
        starter.kill()
        starter.wait()
        ended, _, _ = select.select([descriptor], [], [], 10)
    finally:
        os.close(descriptor)
    assert ended


def test_mosquitto_runs_where_it_is_told_to() -> None:
    cpu = max(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    with mosquitto([cpu]) as broker:
        assert broker.pid is not None
        assert os.sched_getaffinity(broker.pid) == {cpu}
        assert os.sched_getaffinity(0) == before


def test_a_process_that_dies_early_is_no_error_of_its_own() -> None:
    with mosquitto() as broker:
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)


def test_cpu_time_is_that_of_the_process() -> None:
    own = Broker("self", "", 0, os.getpid())
    before = own.cpu_ns()
    assert before is not None
    while own.cpu_ns() == before:
        pass
    times = os.times()
    now = own.cpu_ns()
    assert now is not None
    assert now / 1e9 == pytest.approx(times.user + times.system, abs=0.05)


def test_resident_memory_grows_with_what_is_used(peer: Broker) -> None:
    own = Broker("self", "", 0, os.getpid())
    before = own.resident_bytes()
    # Not from the heap, which may have this much to spare.
    with mmap.mmap(-1, 20_000_000) as used:
        for place in range(0, len(used), mmap.PAGESIZE):
            used[place] = 1
        after = own.resident_bytes()
        size = len(used)
    assert before is not None
    assert after is not None
    assert after - before >= size * 0.9
    resident = peer.resident_bytes()
    assert resident is not None
    assert 1e6 < resident < 1e8


def test_a_running_broker_is_named_by_its_address(peer: Broker) -> None:
    with launch(f"{peer.host}:{peer.port}@{peer.pid}") as broker:
        assert (broker.host, broker.port, broker.pid) == (peer.host, peer.port, peer.pid)
        assert broker.cpu_ns() is not None
    with launch(f"{peer.host}:{peer.port}") as broker:
        assert broker.pid is None
        assert broker.cpu_ns() is None
        assert broker.resident_bytes() is None
    assert peer.pid is not None
    assert is_alive(peer.pid)


@pytest.mark.parametrize("name", ["flashmq", "localhost", ":1883", "localhost:x", "localhost:1883@x"])
def test_a_name_that_is_no_address_is_refused(name: str) -> None:
    with pytest.raises(BrokerError, match="is neither a known broker nor"), launch(name):
        pass


def test_a_broker_that_cannot_start_tells_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brokers, "MOSQUITTO_CONFIG", "listener {port}\nno_such_option true\n")
    with pytest.raises(BrokerError, match="no_such_option"), mosquitto():
        pass


def test_a_missing_mosquitto_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(BrokerError, match="mosquitto is not installed"), mosquitto():
        pass


def test_cpus_are_restored_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    with contextlib.suppress(KeyError), on_cpus([min(before)]):
        assert os.sched_getaffinity(0) == {min(before)}
        raise KeyError
    assert os.sched_getaffinity(0) == before


def test_the_version_of_mosquitto_is_told() -> None:
    assert brokers.version("mosquitto").split(".")[0] == "2"
