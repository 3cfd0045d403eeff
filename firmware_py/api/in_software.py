# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``model:``: the reference model of the gateware, in this process. It needs no simulator; it has no clocks,
and so no limits of rates.
"""

from collections.abc import Iterable

from spigate.firmware_py.api.inbox import Inbox, Packet
from spigate.firmware_py.api.links import Connect, Link, Url
from spigate.firmware_py.errors import SpigateError
from spigate.firmware_py.tables.bus import BusError
from spigate.firmware_py.tables.interface import Tables
from spigate.firmware_py.tables.model import Dropped, Outcome, Punted, Sent, SoftGateway
from spigate.firmware_py.tables.punt import InjectMode, Place
from spigate.hdl.contract.enums import Port


class InSoftware:
    """A :class:`~spigate.firmware_py.api.links.Link` to a gateway in software."""

    def __init__(self) -> None:
        self._gateway = SoftGateway()
        self.tables: Tables = self._gateway
        self.inbox = Inbox(at_once=True)

    async def send(self, port: Port, frame: bytes) -> None:
        self._put(self._gateway.process(port, frame))

    async def inject(
        self, mode: InjectMode, port: Port, depth: int, frame: bytes, out_of: Place | None
    ) -> None:
        self._put(self._gateway.inject(mode, port, depth, frame, out_of))

    def _put(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            match outcome:
                case Sent(port, frame):
                    self.inbox.put(Packet(port, frame))
                case Punted(header, frame):
                    self.inbox.put(Packet(Port.CE, frame, header))
                case Dropped():
                    pass

    async def check(self) -> None:
        pass

    async def explain(self, error: BusError) -> SpigateError:
        return error

    async def close(self) -> None:
        pass


def prepare(url: Url) -> Connect:
    """See :mod:`spigate.firmware_py.api.links`."""
    url.options({})

    async def connect() -> Link:
        return InSoftware()

    return connect
