"""What all IKE SAs of one endpoint share: randomness, timers, outputs, numbers that are free, and each other."""
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING

from spigate.firmware_py.ike.admission import Limits
from spigate.firmware_py.ike.events import IKE_PORT, AddPolicy, Event, EventKind, Output, RemovePolicy
from spigate.firmware_py.ike.pad import Pad, Peer
from spigate.firmware_py.ike.strangers import Strangers
from spigate.firmware_py.ike.timers import Timers
from spigate.firmware_py.policy import Policy

if TYPE_CHECKING:
    from spigate.firmware_py.ike.ike_sa import IkeSa

FIRST_SPI = 256
"""Below are reserved numbers (RFC 4303 2.1)."""


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
    port : int
        From where handshakes begin.
    key_log : bool
        Hand out the keys of IKE SAs.
    esn_required : bool
        As in :func:`~spigate.firmware_py.ike.proposals.choose`.
    """

    limits: Limits = field(default_factory=Limits)
    linger_seconds: float = 5.0
    closed_seconds: float = 40.0
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
    """

    def __init__(self, pad: Pad, settings: Settings, *, random: Callable[[int], bytes] = os.urandom,
                 utc: Callable[[], datetime] = lambda: datetime.now(UTC)):
        self.pad = pad
        self.settings = settings
        self.random = random
        self.utc = utc
        self.timers = Timers()
        self.outputs: deque[Output] = deque()
        self.strangers = Strangers(self.timers, self.outputs)
        self.ikes: dict[bytes, IkeSa] = {}
        self._reserved: set[int] = set()
        self._policies: Counter[Policy] = Counter()
        configured = {child.reqid for peer in pad for child in peer.children}
        self._free_reqids = (number for number in count(1) if number not in configured)

    def emit(self, output: Output) -> None:
        self.outputs.append(output)

    def event(self, kind: EventKind, peer: str, text: str, ike: str = "", child: str = "") -> None:
        self.emit(Event(kind, peer, text, ike, child))

    def fraction(self) -> float:
        """From 0 to below 1, at random."""
        return int.from_bytes(self.random(4)) / (1 << 32)

    def ike_spi(self) -> bytes:
        """An IKE SPI of this side that no IKE SA has."""
        while True:
            spi = self.random(8)
            if spi not in self.ikes and any(spi):
                return spi

    def child_spi(self) -> int:
        """An SPI to receive on; nobody else gets it until :meth:`free_spi`."""
        while True:
            spi = int.from_bytes(self.random(4))
            if spi >= FIRST_SPI and spi not in self._reserved:
                self._reserved.add(spi)
                return spi

    def expects(self, spi: int) -> bool:
        """Whether a peer may send on ``spi``: it was offered, or is in use."""
        return spi in self._reserved

    def free_spi(self, spi: int) -> None:
        self._reserved.discard(spi)

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
