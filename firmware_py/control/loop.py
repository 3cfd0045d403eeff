# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Gateway and control element together, all in software: frames in, frames out, punts answered on the way."""

from collections import Counter, deque
from dataclasses import dataclass, field

from spigate.firmware_py.control.element import ControlElement
from spigate.firmware_py.tables.bus import BusError
from spigate.firmware_py.tables.model import Dropped, Outcome, Punted, Sent, SoftGateway
from spigate.firmware_py.tables.punt import InjectMode, Place, PuntHeader
from spigate.hdl.contract.enums import Port, Reason


class SoftPort:
    """The control element's port of a :class:`~spigate.firmware_py.tables.model.SoftGateway`.

    Members
    -------
    outcomes : deque of Outcome
        What became of injected frames, in order.
    punts : deque of Punted
        What :meth:`receive` hands out.
    """

    def __init__(self, gateway: SoftGateway):
        self._gateway = gateway
        self.outcomes: deque[Outcome] = deque()
        self.punts: deque[Punted] = deque()

    async def receive(self) -> tuple[PuntHeader, bytes]:
        if not self.punts:
            raise BusError("Nothing was punted")
        punt = self.punts.popleft()
        return punt.header, punt.frame

    async def inject(
        self, mode: InjectMode, port: Port, depth: int, frame: bytes, out_of: Place | None = None
    ) -> None:
        self.outcomes.extend(self._gateway.inject(mode, port, depth, frame, out_of))


@dataclass
class Loop:
    """Runs frames through ``gateway`` and answers its punts with ``control``, one frame after the other.

    Members
    -------
    sent : dict of Port to list of bytes
        Frames that left, by port, in order.
    punted : list of Punted
        Frames that came up.
    drops : Counter of Reason
        Of gateway and control element.
    """

    gateway: SoftGateway
    control: ControlElement
    port: SoftPort
    sent: dict[Port, list[bytes]] = field(default_factory=lambda: {Port.NETWORK: [], Port.SERVER: []})
    punted: list[Punted] = field(default_factory=list)

    @property
    def drops(self) -> Counter[Reason]:
        return self.gateway.drops + self.control.dropped

    async def feed(self, port: Port, frame: bytes) -> None:
        """Lets ``frame`` come in at ``port`` and waits until everything has come of it that will."""
        outcomes = deque(self.gateway.process(port, frame))
        while outcomes:
            outcome = outcomes.popleft()
            match outcome:
                case Sent():
                    self.sent[outcome.port].append(outcome.frame)
                case Punted():
                    self.punted.append(outcome)
                    self.port.punts.append(outcome)
                    await self.control.handle(*await self.port.receive())
                    outcomes.extend(self.port.outcomes)
                    self.port.outcomes.clear()
                case Dropped():
                    pass
