"""The listeners whose connections the shards do not accept themselves: TLS, WebSocket, PROXY protocol."""

import socket
from collections.abc import Iterator, Mapping

import trio

from rookery.core.engine import Engine

from .arrivals import Arrival, Arrivals
from .config import Config
from .entrance import Arrived, Entrance
from .gate import ConnectionGate
from .tenancy import Tenancy
from .tls.contexts import TlsContexts
from .tls.reloading import TlsFiles


class Entrances(Mapping[str, Entrance]):
    """Lets connections in until it is stopped, and looks after limits and certificates meanwhile.

    By the names that the configuration gives the listeners.
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        arrivals: Arrivals,
        tenancy: Tenancy,
        gate: ConnectionGate,
        tls_files: TlsFiles,
        listeners: Mapping[str, socket.socket],
        tls_contexts: Mapping[str, TlsContexts],
    ) -> None:
        self._config = config
        self._engine = engine
        self._arrivals = arrivals
        self._tenancy = tenancy
        self._gate = gate
        self._tls_files = tls_files
        self._numbers = {name: listener_id for listener_id, name in enumerate(listeners, start=1)}
        self._by_name = {
            name: Entrance(listeners[name], name, section, tls_contexts.get(name), engine, self._numbers[name])
            for name, section in config.listeners.items()
            if not section.is_accepted_by_shards
        }
        self._scope = trio.CancelScope()

    def __getitem__(self, name: str) -> Entrance:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    async def serve(self) -> None:
        """Let in until stop is called."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                if self._gate.is_on:
                    nursery.start_soon(self._gate.watch)
                if self._tls_files:
                    nursery.start_soon(self._tls_files.watch)
                for name in self._by_name:
                    nursery.start_soon(self._let_in, name)

    def stop(self) -> None:
        """Let in nobody more."""
        self._scope.cancel()

    async def _let_in(self, name: str) -> None:
        """Let in connections to a listener, and hand them to the shards."""

        def hand_over(arrived: Arrived) -> None:
            tls, approach = arrived.tls, arrived.approach
            tenant_id = self._tenancy.tenant_of(self._config.listeners[name], approach)
            ticket = self._arrivals.add(Arrival(tenant_id, approach.certificate, approach.certificate_name))

            def adopt(ssl: int = 0) -> None:
                self._engine.adopt(
                    arrived.descriptor,
                    self._numbers[name],
                    is_websocket=arrived.is_websocket,
                    early=arrived.early,
                    ssl=ssl,
                    peer=arrived.peer,
                    is_counted=arrived.is_counted and self._gate.is_on,
                    network=arrived.network,
                    ticket=ticket,
                )

            try:
                if tls is None:
                    adopt()
                else:
                    tls.lend(adopt)
            except BaseException:
                self._arrivals.close(ticket)
                raise

        await self._by_name[name].serve(hand_over)
