"""Keys over time: read again, kept when they cannot be, and not read because strangers name keys as they like."""

import json
from typing import Any

import pytest
import trio
import trio.testing

from rookery.server.auth.key_set import RETRY_S, STALE_S, UNKNOWN_KEY_S, KeySet, KeySetError

REFRESH_S = 300.0


def document(*key_ids: str) -> bytes:
    return json.dumps({"keys": [{"kty": "oct", "kid": key_id, "k": "A" * 43} for key_id in key_ids]}).encode()


class Source:
    """Where keys come from: what it gives, or raises, after a while."""

    def __init__(self, *key_ids: str) -> None:
        self.gives: bytes | Exception = document(*key_ids)
        self.takes_s = 0.0
        self.keys = KeySet("source", self.read, ["HS256"], refresh_s=REFRESH_S)

    async def read(self) -> bytes:
        await trio.sleep(self.takes_s)
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives

    def ids(self, found: Any) -> list[str] | None:
        return None if found is None else [key.key_id for key in found]

    async def find(self, key_id: str | None) -> list[str]:
        """As an authenticator does."""
        found = self.keys.find(key_id, "HS256")
        return self.ids(await self.keys.find_later(key_id, "HS256") if found is None else found) or []


async def test_keys_are_read_when_they_are_wanted_first_and_once(autojump_clock: trio.testing.MockClock) -> None:
    source = Source("a", "b")
    source.takes_s = 1.0
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(source.find, "a")
    assert source.keys.read_count == 1
    assert await source.find(None) == ["a", "b"]
    assert source.keys.find("a", "RS256") == () or source.keys.find("a", "RS256") is None


async def test_unknown_key_has_the_set_read_again_but_not_too_often(autojump_clock: trio.testing.MockClock) -> None:
    source = Source("a")
    assert await source.find("b") == []
    assert source.keys.read_count == 1
    source.gives = document("b")
    assert await source.find("b") == []
    await trio.sleep(UNKNOWN_KEY_S)
    assert await source.find("b") == ["b"]
    assert await source.find("a") == []
    assert source.keys.read_count == 2


async def test_others_go_on_with_old_keys_while_one_reads_new_ones(autojump_clock: trio.testing.MockClock) -> None:
    source = Source("a")
    await source.find("a")
    await trio.sleep(REFRESH_S)
    source.takes_s = 1.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.find, "a")
        await trio.testing.wait_all_tasks_blocked()
        assert source.ids(source.keys.find("a", "HS256")) == ["a"]
    assert source.keys.read_count == 2


async def test_old_keys_stay_for_a_day_when_new_ones_cannot_be_had(autojump_clock: trio.testing.MockClock) -> None:
    source = Source("a")
    await source.find("a")
    source.gives = OSError("no network")
    await trio.sleep(REFRESH_S)
    assert await source.find("a") == ["a"]
    await trio.sleep(STALE_S + 1)
    with pytest.raises(KeySetError, match="source: no network"):
        await source.find("a")
    source.gives = document("a")
    await trio.sleep(RETRY_S)
    assert await source.find("a") == ["a"]


async def test_source_that_fails_is_not_asked_by_every_client(autojump_clock: trio.testing.MockClock) -> None:
    source = Source("a")
    source.gives = OSError("no network")
    for _ in range(10):
        with pytest.raises(KeySetError, match="no network"):
            await source.find("a")
    assert source.keys.read_count == 1
    await trio.sleep(RETRY_S)
    source.gives = document("a")
    assert await source.find("a") == ["a"]
