"""ResourceThrottler: plugins close resources of tenants, off the path of clients."""

from collections.abc import Collection, Sequence
from typing import Any

import trio

from rookery.core.quotas import ResourceState
from rookery.server.events import OutOfTenantResource
from support.own_broker import broker_with, connect
from support.waiting import eventually

made: dict[str, Any] = {}


class Throttler:
    """Closes what the test says, and remembers what it was told."""

    def __init__(self) -> None:
        made["it"] = self
        self.names: Collection[str] = ()
        self.seen: list[tuple[str, dict[str, int | None]]] = []
        self.fails = False
        self.hangs = False

    async def throttled_resources(self, tenant_id: str, resources: Sequence[ResourceState]) -> Collection[str]:
        self.seen.append((tenant_id, {resource.name: resource.usage for resource in resources}))
        if self.hangs:
            await trio.sleep_forever()
        if self.fails:
            raise OSError("no connection to the plans")
        return self.names


SECTIONS = {"it": {"use": f"{__name__}:Throttler", "refresh_s": 0.01, "timeout_s": 0.05, "breaker_s": 0.01}}


async def asked_again() -> None:
    """An answer that was on its way when this began has come, and one more."""
    before = len(made["it"].seen)
    await eventually(lambda: len(made["it"].seen) > before + 1)


async def test_a_closed_resource_is_refused_until_the_plugin_opens_it() -> None:
    async with broker_with(plugins=SECTIONS) as broker, connect(broker, username="acme/bob") as client:
        with broker.events.subscribe(OutOfTenantResource) as stream:
            made["it"].names = ("TotalTransientSubscriptions", "NoSuchThing")
            await asked_again()
            assert (await client.subscribe("a")).reason_codes == (0x97,)
            event = await anext(stream)
            assert isinstance(event, OutOfTenantResource)
            assert (event.tenant_id, event.resource, event.user_id) == ("acme", "TotalTransientSubscriptions", "bob")
        made["it"].names = ()
        await asked_again()
        assert (await client.subscribe("a")).reason_codes == (0,)
        assert broker.resources_of("acme")[4].throttled == 1


async def test_the_plugin_sees_what_the_tenant_uses() -> None:
    async with broker_with(plugins=SECTIONS) as broker, connect(broker, username="acme/bob") as client:
        await client.subscribe("a", "b")
        await asked_again()
        tenant_id, usage = made["it"].seen[-1]
        assert tenant_id == "acme"
        assert usage["TotalConnections"] == 1
        assert usage["TotalTransientSubscriptions"] == 2


async def test_a_plugin_that_fails_or_hangs_leaves_its_last_answer() -> None:
    async with broker_with(plugins=SECTIONS) as broker, connect(broker, username="acme/bob") as client:
        throttler = made["it"]
        throttler.names = {"TotalTransientSubscriptions"}
        await asked_again()
        throttler.fails = True
        await asked_again()
        assert (await client.subscribe("a")).reason_codes == (0x97,)
        throttler.hangs = True
        await asked_again()
        assert (await client.subscribe("a")).reason_codes == (0x97,)
        async with connect(broker, username="acme/eve") as other:
            await other.publish("t", b"x", qos=1)
