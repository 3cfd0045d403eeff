# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What a daemon asks of whoever does ESP and AH for it, in this process or in hardware."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

from spigate.firmware_py.ike.engine.actions import (
    AddPolicy,
    InstallSa,
    MoveSa,
    RemovePolicy,
    RemoveSa,
    Socket,
)
from spigate.firmware_py.ipsec.policy import Policy
from spigate.firmware_py.ipsec.sa import Sa, SaState, Selectors

SaOrPolicy = InstallSa | RemoveSa | MoveSa | AddPolicy | RemovePolicy
HELD_PACKETS = 16
"""Packets that wait for a child SA that traffic starts; that came before the inbound SA that they are on;
or whose next hop has yet to say where it is."""
KINDS = ("encrypted", "decrypted", "bypassed")
"""What becomes of packets that are not dropped."""
NEARLY_USED_UP = 0xF000_0000
"""The sequence number at which an SA without extended ones is replaced."""


class Active(Protocol):
    """An SA at work. ``since``: when it was installed; ``where``: who does it."""

    peer: str
    child: str
    sa: Sa
    since: float

    @property
    def state(self) -> SaState:
        """How far it is; of hardware, as it was when it was last asked."""

    @property
    def where(self) -> str:
        """``DFE 0``, or ``software``, and why, if that is not always so."""


@dataclass(frozen=True)
class Hooks:
    """What a data plane tells.

    Members
    -------
    alive : callable
        With the SPI of an inbound SA on which authentic packets came.
    moved : callable
        With the SPI of an inbound SA on which an authentic packet came in UDP from elsewhere, and its local
        and remote ends.
    expired : callable
        With an SA, as it was installed, that is to be replaced, or (True) that is used up.
    wanted : callable
        With names of peer and child, and the packet's selectors, where a packet waits for a child SA.
    expects : callable
        Says of an SPI that no inbound SA has whether it will have one: a peer that answers may send on a
        child SA before its answer is here (RFC 7296 2.8).
    undone : callable
        With what an endpoint wants and the exception, where it is found only later that it cannot be done.
    turn : callable
        When something was done that may have called the others.
    """

    alive: Callable[[int], None]
    moved: Callable[[int, Socket, Socket], None]
    expired: Callable[[Sa, bool], None]
    wanted: Callable[[str, str, Selectors], None]
    expects: Callable[[int], bool]
    undone: Callable[[SaOrPolicy, Exception], None]
    turn: Callable[[], None]


@dataclass(frozen=True)
class Metric:
    """One metric of Prometheus: values by what ``label`` says, or a single one by the empty word."""

    name: str
    kind: str
    text: str
    label: str
    values: Mapping[str, int]


class DataPlane(Protocol):
    """Who does ESP and AH.

    Members
    -------
    sas, policies : iterables
        What is at work.
    """

    @property
    def sas(self) -> Iterable[Active]:
        """SAs, for tables."""

    @property
    def policies(self) -> Iterable[Policy]:
        """Policies in the order in which they decide."""

    async def open(self, stack: AsyncExitStack, hooks: Hooks) -> None:
        """Takes what it needs, and gives it back with ``stack``. InputError where something is not there."""

    async def run(self) -> None:
        """Is at work until cancelled. Raises BusError where the hardware is gone, DeviceGone where a device
        of the host is.
        """

    def apply(self, output: SaOrPolicy) -> None:
        """Does what an endpoint wants, after all that it wanted before. Raises what it runs into at once;
        see :attr:`Hooks.undone`.
        """

    def applied(self) -> None:
        """What belongs together was applied."""

    def datagram(self, data: bytes, local: Socket, remote: Socket, tos: int) -> None:
        """A UDP datagram on port 4500 that is not IKE's."""

    def forget_held(self, peer: str) -> None:
        """The packets that wait for that peer wait in vain."""

    def metrics(self) -> list[Metric]:
        """What it counts."""


def packets_and_drops(counts: Counter[str], drops: Counter[str]) -> list[Metric]:
    """Metrics that every data plane has: packets done by kind, and dropped by reason."""
    return [
        Metric(
            "packets_total",
            "counter",
            "Packets done, by kind.",
            "kind",
            {kind: counts[kind] for kind in KINDS},
        ),
        Metric("dropped_packets_total", "counter", "Packets dropped, by reason.", "reason", dict(drops)),
    ]
