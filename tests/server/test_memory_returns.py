"""A broker gives back to the system what many messages took that waited for absent clients."""

import time

from rookery.bench.afterwards import MIB, measure_afterwards, resident
from rookery.bench.brokers import rookery
from rookery.bench.measure import Times
from rookery.bench.scenarios import SCENARIOS

PATIENCE_S = 60.0


def test_resident_memory_comes_back_when_queued_messages_have_been_taken() -> None:
    with rookery() as broker:
        found = measure_afterwards(SCENARIOS["replay-queued-q1"], broker, Times(drain_s=PATIENCE_S), ())
        assert found.busy > found.before + 10 * MIB
        give_up = time.monotonic() + PATIENCE_S
        while (now := resident(broker)) > found.before + 6 * MIB:
            assert time.monotonic() < give_up, f"{found.before} bytes before, {now} afterwards"
            time.sleep(0.1)
