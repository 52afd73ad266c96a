"""Limits of connections: what the configuration says goes to the core, what the core refused comes into the log."""

from collections.abc import Mapping
from dataclasses import dataclass

import trio

from rookery.core.engine import Engine

from .config import Config
from .config_listeners import ListenerSection, MqttSection
from .log import get_logger

REPORT_S = 10.0  # between two lines of the log about one listener: a flood of connections must not be one of lines

# As Engine.gate_counts has them.
REASONS = ("limit", "listener_limit", "network_limit", "rate", "listener_rate", "network_rate")

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GateCounts:
    """Of one listener."""

    connections: int  # now
    refused: Mapping[str, int]  # by the limit that was reached, see REASONS


class ConnectionGate:
    """The limits of one broker; made before its shards run."""

    def __init__(self, engine: Engine, config: Config) -> None:
        self._engine = engine
        self._names = ("mqtt", *config.listeners)  # by listener_id
        section = config.connections
        listeners: list[MqttSection | ListenerSection] = [config.mqtt, *config.listeners.values()]
        limits = [(each.connections_limit, each.connections_rate_per_s) for each in listeners]
        engine.set_connect_timeout(round(section.timeout_s * 1000))
        engine.set_packet_timeout(round(section.packet_timeout_s * 1000))
        everywhere = (section.limit, section.rate_per_s, section.network_limit, section.network_rate_per_s)
        self.is_on = any(everywhere) or any(map(any, limits))
        if self.is_on:
            engine.limit_connections(
                limits,
                connections=section.limit,
                rate_per_s=section.rate_per_s,
                network_connections=section.network_limit,
                network_rate_per_s=section.network_rate_per_s,
                ipv4_bits=section.network_ipv4_bits,
                ipv6_bits=section.network_ipv6_bits,
            )

    def counts(self) -> dict[str, GateCounts]:
        """By listener, that of `[mqtt]` first; empty without limits."""
        return {
            name: GateCounts(connections, dict(zip(REASONS, refused, strict=True)))
            for name, (connections, refused) in zip(self._names, self._engine.gate_counts(), strict=False)
        }

    async def watch(self) -> None:
        """Say in the log what was refused since the last look, until cancelled."""
        before: dict[str, GateCounts] = {}
        while True:
            counts = self.counts()
            for name, count in counts.items():
                known = before[name].refused if name in before else {}
                fresh = {
                    reason: number - known.get(reason, 0)
                    for reason, number in count.refused.items()
                    if number > known.get(reason, 0)
                }
                if fresh:
                    _log.warning("connections_refused", listener=name, connections=count.connections, **fresh)
            before = counts
            await trio.sleep(REPORT_S)
