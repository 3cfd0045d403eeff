"""What all IKE SAs of one endpoint share: randomness, timers, outputs, numbers that are free, and each other."""
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from spigate.firmware_py.ike.admission import Limits
from spigate.firmware_py.ike.events import IKE_PORT, Event, EventKind, Output
from spigate.firmware_py.ike.pad import Pad, Peer
from spigate.firmware_py.ike.timers import Timers

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
        A replaced inbound SA still takes what is on its way for so long, and a closed IKE SA still answers requests
        that come again.
    port : int
        From where handshakes begin.
    key_log : bool
        Hand out the keys of IKE SAs.
    """

    limits: Limits = field(default_factory=Limits)
    linger_seconds: float = 5.0
    port: int = IKE_PORT
    key_log: bool = False


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
        self.ikes: dict[bytes, IkeSa] = {}
        self._reserved: set[int] = set()
        self._reqids = {child.reqid for peer in pad for child in peer.children if child.reqid}

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

    def free_spi(self, spi: int) -> None:
        self._reserved.discard(spi)

    def reqid(self, configured: int) -> int:
        """``configured``, or a number that is free."""
        if configured:
            return configured
        reqid = next(number for number in range(1, 1 << 32) if number not in self._reqids)
        self._reqids.add(reqid)
        return reqid

    def free_reqid(self, reqid: int, configured: int) -> None:
        if not configured:
            self._reqids.discard(reqid)

    def with_peer(self, peer: Peer) -> Iterator["IkeSa"]:
        """IKE SAs with the peers of one entry, that are made or being made."""
        return (ike for ike in list(self.ikes.values()) if ike.peer is peer and ike.alive)
