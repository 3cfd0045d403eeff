# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""NAT traversal (RFC 7296 2.23): detection, the move to port 4500, and the path that an IKE SA takes."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from spigate.firmware_py.ike.engine.actions import NAT_PORT, Socket
from spigate.firmware_py.ike.wire.message import Message
from spigate.firmware_py.ike.wire.payloads import Notify
from spigate.firmware_py.ike.wire.registry import NotifyType
from spigate.firmware_py.ipsec.sa import Encapsulation

MARKER = bytes(4)
"""In front of IKE on port 4500, where ESP has its SPI (RFC 3948 2.2)."""
KEEPALIVE = b"\xff"


@dataclass
class Path:
    """Where an IKE SA's datagrams go.

    Members
    -------
    local, remote : Socket
    local_nat, remote_nat : bool
        Whether a NAT stands in front of that end, as far as was detected.
    supported : bool
        The peer takes part in NAT detection; without it there is no encapsulation.
    """

    local: Socket
    remote: Socket
    local_nat: bool = False
    remote_nat: bool = False
    supported: bool = False

    @property
    def nat(self) -> bool:
        return self.local_nat or self.remote_nat

    def float(self) -> None:
        """Moves both ends from port 500 to 4500, as the initiator does that found a NAT (its peer follows).

        Ports that are neither, as in tests on one host, stay.
        """
        if self.local.port != NAT_PORT:
            self.local = Socket(self.local.address, NAT_PORT)
            self.remote = Socket(self.remote.address, NAT_PORT)

    def encapsulation(self) -> Encapsulation | None:
        """UDP ports of ESP on this path, outbound; None: it needs no UDP."""
        return Encapsulation(self.local.port, self.remote.port) if self.nat else None


def _hash(spi_i: bytes, spi_r: bytes, socket: Socket) -> bytes:
    return hashlib.sha1(spi_i + spi_r + socket.address.packed + socket.port.to_bytes(2)).digest()


def detection(
    spi_i: bytes, spi_r: bytes, path: Path, force: bool, random: Callable[[int], bytes]
) -> tuple[Notify, ...]:
    """The notifies of IKE_SA_INIT that let the peer see a NAT.

    ``force`` claims a source that is not the true one, so that ESP is put into UDP although no NAT is there.
    """
    source = random(20) if force else _hash(spi_i, spi_r, path.local)
    return (
        Notify(NotifyType.NAT_DETECTION_SOURCE_IP, source),
        Notify(NotifyType.NAT_DETECTION_DESTINATION_IP, _hash(spi_i, spi_r, path.remote)),
    )


def detect(message: Message, path: Path, force: bool) -> None:
    """Notes in ``path`` what the peer's IKE_SA_INIT ``message``, which came along it, says of NATs.

    Its notifies were made with the SPIs of its own header. With ``force`` this end claims to be behind one.
    """
    sources = [
        each.data for each in message.all(Notify) if each.notify_type == NotifyType.NAT_DETECTION_SOURCE_IP
    ]
    target = message.notify(NotifyType.NAT_DETECTION_DESTINATION_IP)
    path.supported = bool(sources) and target is not None
    if sources and target is not None:
        path.remote_nat = _hash(message.spi_i, message.spi_r, path.remote) not in sources
        path.local_nat = force or target.data != _hash(message.spi_i, message.spi_r, path.local)
