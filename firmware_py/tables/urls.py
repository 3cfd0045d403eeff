# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The gateways in hardware that a URL may name, and the one place that opens them."""

from collections import Counter
from typing import Protocol

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.tables import remote, serial_wire
from spigate.firmware_py.tables.board_link import BoardLink
from spigate.firmware_py.tables.bus import Bus, Gone, PacketPort
from spigate.firmware_py.tables.remote import RemoteGateway
from spigate.hdl.contract.enums import PuntClass

FORMS = {"unix": f"{remote.SCHEME}PATH", "serial": serial_wire.FORM}
"""What the URLs of each scheme look like."""


class Remote(Bus, PacketPort, Protocol):
    """A gateway that is connected: registers and packet port.

    Members
    -------
    fresh : bool
        Its tables are as a reset leaves them, empty; False: nobody knows.
    """

    fresh: bool

    @property
    def failure(self) -> Gone | None:
        """Why nothing can be asked any more; None where it can."""

    def take_lost(self) -> Counter[PuntClass]:
        """Punted frames that nobody took in time, since the last call."""

    async def close(self) -> None:
        """Hangs up: whoever waits hears so."""


def check(url: str) -> None:
    """Refuses what names no gateway in hardware: InputError, which says what would."""
    match url.partition(":")[:2]:
        case "unix", ":":
            remote.path_of(url)
        case "serial", ":":
            serial_wire.Line.of(url)
        case _:
            raise InputError(f"expected {' or '.join(FORMS.values())} for a gateway in hardware, not {url!r}")


async def open_remote(url: str) -> Remote:
    """The gateway that a URL of :data:`FORMS` names.

    Raises
    ------
    NotThere
        Nobody is there, or no gateway; the message says what was found.
    InputError
        The URL names none.
    UnsupportedError
        It is one that this version does not know.
    """
    check(url)
    return await (BoardLink if url.startswith("serial:") else RemoteGateway).open(url)
