"""The tables of the admin database: what is put in comes out, in order, page by page, and stays after a restart."""

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rookery.core.permissions.rule import EVERY_ACTION, Action, Effect, InvalidRule, Rule
from rookery.server.auth.passwords import hash_password
from rookery.server.auth.scram import ScramCredential
from rookery.server.store import AuditEntry, Ban, BanKind, Store, StoreError, User, audit, bans, open_store, rules

HASH = hash_password("right")


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with open_store(None) as opened:
        yield opened


def allow(topic_filter: str, tenant_id: str | None = None) -> Rule:
    return Rule(effect=Effect.ALLOW, actions=EVERY_ACTION, topic_filter=topic_filter, tenant_id=tenant_id)


async def test_user_comes_out_as_it_was_put_in(store: Store) -> None:
    credential = ScramCredential.of_password("right").print()
    user = User("acme", "bob", HASH, credential, {"site": "b1"}, is_enabled=False)
    await store.users.put(user)
    found = await store.users.find("acme", "bob")
    assert found is not None
    assert found.changed_at_s > 0
    assert (found.password_hash, found.scram_credential, found.attributes, found.is_enabled) == (
        HASH,
        credential,
        {"site": "b1"},
        False,
    )
    assert await store.users.find("acme", "eve") is None
    assert await store.users.find("other", "bob") is None


async def test_users_of_a_tenant_come_page_by_page(store: Store) -> None:
    await store.users.put(*(User("acme", f"user{number}") for number in range(5)), User("other", "user9"))
    first = await store.users.page("acme", limit=3)
    assert [user.user_id for user in first] == ["user0", "user1", "user2"]
    rest = await store.users.page("acme", after="user2", limit=3)
    assert [user.user_id for user in rest] == ["user3", "user4"]
    assert await store.users.count() == 6


async def test_user_is_removed_once(store: Store) -> None:
    await store.users.put(User("acme", "bob"))
    assert await store.users.remove("acme", "bob")
    assert not await store.users.remove("acme", "bob")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"tenant_id": ""}, "tenant_id is empty"),
        ({"user_id": "a/b"}, "user_id is 'a/b'"),
        ({"user_id": "a\0"}, "user_id is"),
        ({"tenant_id": "x" * 65536}, "has 65536 bytes, the limit is 65535"),
        ({"password_hash": "right"}, "expected an Argon2id hash"),
        ({"scram_credential": "right"}, "expected SCRAM-SHA-256"),
        ({"attributes": {"a": 1}}, "attribute 'a' is not text"),
        ({"attributes": {"a": "x" * 20_000}}, "the limit is 16384"),
    ],
)
def test_user_who_cannot_be_is_refused_by_value_and_limit(fields: dict[str, object], problem: str) -> None:
    values: dict[str, object] = {"tenant_id": "acme", "user_id": "bob", **fields}
    with pytest.raises(ValueError, match=problem):
        User(**values)  # type: ignore[arg-type]


async def test_rules_are_kept_in_the_order_of_their_positions(store: Store) -> None:
    first = await store.rules.add(allow("a"))
    second = await store.rules.add(allow("b", "acme"))
    await store.rules.add(allow("c"), position=first.position - 1)
    assert [stored.rule.topic_filter for stored in await store.rules.all()] == ["c", "a", "b"]
    assert [stored.rule.topic_filter for stored in await store.rules.page("acme")] == ["b"]
    page = await store.rules.page(None, limit=1)
    assert [stored.rule.topic_filter for stored in page] == ["c"]
    after = (page[0].position, page[0].rule_id)
    assert [stored.rule.topic_filter for stored in await store.rules.page(None, after=after)] == ["a"]
    changed = await store.rules.change(second.rule_id, allow("d", "acme"), position=-7)
    assert changed == await store.rules.find(second.rule_id)
    assert [stored.rule.topic_filter for stored in await store.rules.all()] == ["d", "c", "a"]
    assert await store.rules.remove(second.rule_id)
    assert not await store.rules.remove(second.rule_id)
    assert await store.rules.change(second.rule_id, allow("e")) is None


async def test_rule_keeps_all_that_it_says(store: Store) -> None:
    rule = Rule(
        effect=Effect.ALLOW,
        actions=frozenset([Action.PUBLISH, Action.SUBSCRIBE]),
        topic_filter="%t/%u/+/#",
        tenant_id="acme",
        user_id="bob",
        client_id="c",
        max_qos=1,
        retain=False,
    )
    stored = await store.rules.add(rule)
    assert (await store.rules.all()) == [stored]
    assert stored.rule == rule


async def test_rules_of_a_tenant_are_replaced_together(store: Store) -> None:
    await store.rules.add(allow("shared"))
    await store.rules.replace("acme", [allow("a", "acme"), allow("b", "acme")])
    await store.rules.replace("acme", [allow("c", "acme")])
    assert [stored.rule.topic_filter for stored in await store.rules.all()] == ["shared", "c"]
    with pytest.raises(InvalidRule, match="'other', expected 'acme'"):
        await store.rules.replace("acme", [allow("d", "other")])


async def test_rules_have_a_limit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "RULES_LIMIT", 2)
    await store.rules.replace(None, [allow("a"), allow("b")])
    with pytest.raises(InvalidRule, match="3 rules, the limit is 2"):
        await store.rules.add(allow("c"))
    assert len(await store.rules.all()) == 2


async def test_settings_of_a_tenant_are_replaced_and_taken_away(store: Store) -> None:
    await store.settings.put("acme", {"MaximumQoS": 1, "RetainEnabled": False})
    await store.settings.put("other", {"MaximumQoS": 0})
    await store.settings.put("acme", {"MaximumQoS": 2})
    assert await store.settings.all() == {"acme": {"MaximumQoS": 2}, "other": {"MaximumQoS": 0}}
    await store.settings.put("acme", {})
    assert await store.settings.all() == {"other": {"MaximumQoS": 0}}


async def test_api_key_is_found_by_itself_and_kept_as_a_digest(store: Store) -> None:
    key, made = await store.api_keys.create("ci", role="publisher", tenant_id="acme", expires_at_s=10)
    assert await store.api_keys.find(key) == made
    assert await store.api_keys.find(key + "x") is None
    assert key.encode() not in made.digest
    assert key not in repr(made)
    assert made.is_expired(10)
    assert not made.is_expired(9)
    assert await store.api_keys.all() == [made]
    assert await store.api_keys.remove(made.key_id)
    assert await store.api_keys.find(key) is None


async def test_ban_takes_the_place_of_one_about_the_same(store: Store) -> None:
    await store.bans.put(Ban(BanKind.USER, "bob", "acme", reason="first"))
    kept = await store.bans.put(Ban(BanKind.USER, "bob", "acme", reason="second"))
    assert await store.bans.all() == [kept]
    assert kept.reason == "second"
    assert await store.bans.remove(kept.ban_id)
    assert await store.bans.all() == []


async def test_bans_have_a_limit_and_expired_ones_make_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bans, "BANS_LIMIT", 2)
    await store.bans.put(Ban(BanKind.ADDRESS, "192.0.2.1"))
    await store.bans.put(Ban(BanKind.ADDRESS, "192.0.2.2", expires_at_s=1))
    await store.bans.put(Ban(BanKind.ADDRESS, "192.0.2.3"))
    with pytest.raises(ValueError, match="2 bans, the limit is 2"):
        await store.bans.put(Ban(BanKind.ADDRESS, "192.0.2.4"))


@pytest.mark.parametrize(
    ("kind", "value", "tenant"),
    [("user", "bob", ""), ("client", "", "acme"), ("address", "here", ""), ("tenant", "acme", "acme")],
)
def test_ban_that_could_never_hold_is_refused(kind: str, value: str, tenant: str) -> None:
    with pytest.raises(ValueError, match=r"ban|address"):
        Ban(BanKind(kind), value, tenant)


def test_address_of_a_ban_has_one_form() -> None:
    assert Ban(BanKind.ADDRESS, "2001:DB8:0::1").value == "2001:db8::1"


async def test_audit_log_is_a_ring_and_comes_newest_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "ENTRIES_LIMIT", 3)
    for number in range(5):
        await store.audit.add(AuditEntry("ci", "PUT", "acme" if number % 2 else None, str(number), {"n": number}))
    entries = await store.audit.page()
    assert [entry.target for entry in entries] == ["4", "3", "2"]
    assert entries[0].detail == {"n": 4}
    assert [entry.target for entry in await store.audit.page(before=entries[0].entry_id, limit=1)] == ["3"]
    assert [entry.target for entry in await store.audit.page(tenant_id="acme")] == ["3"]


async def test_everything_is_there_after_a_restart_in_files_of_the_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "made" / "data"
    async with open_store(directory) as store:
        await store.users.put(User("acme", "bob", HASH))
        assert {file.name for file in directory.iterdir()} >= {"admin.db", "admin.db-wal"}
        for file in directory.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    async with open_store(directory) as store:
        assert await store.users.find("acme", "bob") is not None


async def test_backup_is_a_database_of_its_own(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as store:
        await store.settings.put("acme", {"MaximumQoS": 1})
        (tmp_path / "copy").mkdir()
        copy = tmp_path / "copy" / "admin.db"
        await store.back_up(copy)
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        with pytest.raises(StoreError, match="File exists"):
            await store.back_up(copy)
    async with open_store(tmp_path / "copy") as store:
        assert json.dumps(await store.settings.all()) == '{"acme": {"MaximumQoS": 1}}'
