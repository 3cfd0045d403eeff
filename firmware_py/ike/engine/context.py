# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What all IKE SAs of one endpoint share: randomness, timers, outputs, numbers that are free, and each
other.
"""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING

from spigate.firmware_py.ike.engine.actions import IKE_PORT, AddPolicy, Event, EventKind, Output, RemovePolicy
from spigate.firmware_py.ike.engine.admission import Limits, Lingering
from spigate.firmware_py.ike.engine.boundary import Boundary
from spigate.firmware_py.ike.engine.holdings import Holdings
from spigate.firmware_py.ike.engine.strangers import Strangers
from spigate.firmware_py.ike.engine.timers import Timers
from spigate.firmware_py.ike.peers.pad import Pad, Peer
from spigate.firmware_py.ipsec.policy import Policy

if TYPE_CHECKING:
    from spigate.firmware_py.ike.engine.ike_sa import IkeSa


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Members
    -------
    limits : Limits
        For handshakes that peers begin.
    linger_seconds : float
        A replaced inbound SA still takes what is on its way for so long.
    closed_seconds : float
        A closed IKE SA still answers the request that closed it for so long.
    handshake_seconds : float
        A handshake that this side begins has so long in all.
    ike_sas_per_identity, children_per_identity : int
        So many IKE SAs may one identity have, and child SAs on all of them together. An IKE SA more takes
        the place of the one that was not heard for longest; a child SA more is refused.
    port : int
        From where handshakes begin.
    key_log : bool
        Hand out the keys of IKE SAs.
    esn_required : bool
        As in :func:`~spigate.firmware_py.ike.crypto.proposals.choose`.
    """

    limits: Limits = field(default_factory=Limits)
    linger_seconds: float = 5.0
    closed_seconds: float = 40.0
    handshake_seconds: float = 180.0
    ike_sas_per_identity: int = 16
    children_per_identity: int = 256
    port: int = IKE_PORT
    key_log: bool = False
    esn_required: bool = False


class Context:
    """Parameters
    ----------
    pad : Pad
    settings : Settings
    random : callable
        So many bytes, unpredictable.
    utc : callable
        Date and time, for the validity of certificates.

    Members
    -------
    ikes : dict of bytes to IkeSa
        By the SPI of this side. Those that are closed stand there as long as they linger.
    reserved : set of int
        SPIs of child SAs that this side offered or receives on.
    held : set of Holdings
        Who has reserved something.
    lingering : Lingering
        IKE SAs that are closed and still answer their last request.
    """

    def __init__(
        self,
        pad: Pad,
        settings: Settings,
        *,
        random: Callable[[int], bytes] = os.urandom,
        utc: Callable[[], datetime] = lambda: datetime.now(UTC),
    ):
        self.pad = pad
        self.settings = settings
        self.random = random
        self.utc = utc
        self.outputs: deque[Output] = deque()
        self.boundary = Boundary(self._internal)
        self.timers = Timers(self.boundary)
        self.strangers = Strangers(self.timers, self.outputs)
        self.ikes: dict[bytes, IkeSa] = {}
        self.lingering = Lingering(settings.limits)
        self.reserved: set[int] = set()
        self.held: set[Holdings] = set()
        self._policies: Counter[Policy] = Counter()
        configured = {child.reqid for peer in pad for child in peer.children}
        self._free_reqids = (number for number in count(1) if number not in configured)

    def emit(self, output: Output) -> None:
        self.outputs.append(output)

    def event(self, kind: EventKind, peer: str, text: str, ike: str = "", child: str = "") -> None:
        self.emit(Event(kind, peer, text, ike, child))

    def _internal(self, ike: "IkeSa | None", text: str) -> None:
        """Strangers may bring it about, so it is told of within their limit."""
        who, name = (ike.who, ike.name) if ike is not None else ("", "")
        self.strangers.tell(self.boundary.now, Event(EventKind.INTERNAL, who, text, name))

    def census(self) -> dict[str, int]:
        """What is reserved, kept and waited for, by kind: nothing of it is left when everything has ended."""
        ikes = list(self.ikes.values())
        return {
            "ike_sas": len(ikes),
            "lingering": len(self.lingering),
            "candidates": sum(len(ike.candidates) for ike in ikes),
            "child_sas": sum(len(ike.children) for ike in ikes),
            "spis": len(self.reserved),
            "holdings": len(self.held),
            "exchanges": sum((ike.active is not None) + ike.queued for ike in ikes),
            "follow_ups": sum(ike.pending is not None for ike in ikes),
            "transcripts": sum(ike.handshake is not None for ike in ikes),
            "policies": len(self._policies),
            "timers": len(self.timers),
        }

    def fraction(self) -> float:
        """From 0 to below 1, at random."""
        return int.from_bytes(self.random(4)) / (1 << 32)

    def ike_spi(self) -> bytes:
        """An IKE SPI of this side that no IKE SA has."""
        while True:
            spi = self.random(8)
            if spi not in self.ikes and any(spi):
                return spi

    def expects(self, spi: int) -> bool:
        """Whether a peer may send on ``spi``: it was offered, or is in use."""
        return spi in self.reserved

    def reqid(self) -> int:
        """A number that nobody else ties policies and SAs with."""
        return next(self._free_reqids)

    def hold_policy(self, policy: Policy) -> None:
        """One more child SA stands behind ``policy``."""
        self._policies[policy] += 1
        if self._policies[policy] == 1:
            self.emit(AddPolicy(policy))

    def release_policy(self, policy: Policy) -> None:
        """One less."""
        self._policies[policy] -= 1
        if not self._policies[policy]:
            del self._policies[policy]
            self.emit(RemovePolicy(policy))

    def with_peer(self, peer: Peer) -> Iterator["IkeSa"]:
        """IKE SAs with the peers of one entry, that are made or being made."""
        return (ike for ike in list(self.ikes.values()) if ike.peer is peer and ike.alive)
