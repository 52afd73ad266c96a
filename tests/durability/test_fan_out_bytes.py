"""How much of the log a message takes that many persistent sessions get."""

from pathlib import Path

from rookery.server.log_report import read_log_report
from support.memory_broker import Broker

KEPT = {"clean_start": False, "session_expiry_interval": 1000}
SESSIONS = 100
MESSAGES = 20
PAYLOAD_SIZE = 1000
DELIVERY_LIMIT = 60  # bytes of log for one delivery, from the inbox to its acknowledgement, the payload left out


def test_delivery_takes_at_most_60_bytes_beyond_the_one_payload(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    broker = Broker(data=tmp_path / "log", shard_count=1, min_session_expiry_seconds=1)
    readers = [broker.connect(f"reader{number}", **KEPT) for number in range(SESSIONS)]
    for reader in readers:
        reader.subscribe("a", qos=1)
    writer = broker.connect("writer")
    before = read_log_report(tmp_path).record_bytes
    for number in range(MESSAGES):
        assert writer.publish("a", b"%d:" % number + bytes(PAYLOAD_SIZE), qos=1) == 0
    for reader in readers:
        assert len(reader.take_messages()) == MESSAGES
    broker.close()
    after = read_log_report(tmp_path).record_bytes
    messages = after["message"] - before.get("message", 0)
    assert MESSAGES * PAYLOAD_SIZE < messages < MESSAGES * (PAYLOAD_SIZE + 100)
    names = ("queued", "sent", "settled")
    deliveries = sum(after.get(name, 0) - before.get(name, 0) for name in names)
    assert 0 < deliveries <= SESSIONS * MESSAGES * DELIVERY_LIMIT
