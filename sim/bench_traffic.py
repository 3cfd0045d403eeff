# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What the benchmark sends, and what must become of it."""

import random
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

from spigate.firmware_py.errors import Unsound
from spigate.firmware_py.ipsec.packet import ETHERTYPE_IPV4, UDP, Ethernet, checksum
from spigate.firmware_py.ipsec.sa import ESP, Address, Auth, Cipher, Sa, Selectors
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.firmware_py.tables.driver import Driver
from spigate.firmware_py.tables.interface import CamEntry, CamKey, Route, Rule
from spigate.firmware_py.words import counted
from spigate.hdl.contract.enums import Action, Direction, Mode, Port

PEER, OURS = ip_address("192.0.2.1"), ip_address("192.0.2.2")
SENDER, PROTECTED = ip_address("10.1.0.10"), ip_network("10.1.0.0/16")
ETHERNET = Ethernet(bytes.fromhex("020000000002"), bytes.fromhex("020000000001"), ETHERTYPE_IPV4).pack()
IP_BYTES, ESP_BYTES, IV_BYTES, ICV_BYTES = 20, 8, 8, 16
IP_IN_IP = 4
FIRST_SPI = 256
SUITES: dict[str, dict[str, Any]] = {
    "gcm128": {"cipher": Cipher.AES_GCM, "key": bytes(range(16)), "salt": b"salt", "icv_bytes": ICV_BYTES},
    "gcm256": {"cipher": Cipher.AES_GCM, "key": bytes(range(32)), "salt": b"salt", "icv_bytes": ICV_BYTES},
    "cbc128-sha256": {
        "cipher": Cipher.AES_CBC,
        "key": bytes(range(16)),
        "auth": Auth.HMAC_SHA256_128,
        "auth_key": bytes(range(32)),
    },
    "cbc256-sha256": {
        "cipher": Cipher.AES_CBC,
        "key": bytes(range(32)),
        "auth": Auth.HMAC_SHA256_128,
        "auth_key": bytes(range(32)),
    },
    "cbc128-sha1": {
        "cipher": Cipher.AES_CBC,
        "key": bytes(range(16)),
        "auth": Auth.HMAC_SHA1_96,
        "auth_key": bytes(range(20)),
    },
    "null-sha256": {"cipher": Cipher.NULL, "auth": Auth.HMAC_SHA256_128, "auth_key": bytes(range(32))},
}


def behind(flow: int) -> Address:
    """The host that flow number ``flow`` goes to."""
    return ip_address("10.2.0.10") + 256 * flow


def ipv4(
    source: Address, destination: Address, protocol: int, payload: bytes, identification: int = 0
) -> bytes:
    """An IPv4 packet."""
    header = bytearray(
        b"\x45\0" + (IP_BYTES + len(payload)).to_bytes(2) + identification.to_bytes(2) + b"\0\0\x40"
    )
    header += bytes([protocol, 0, 0]) + source.packed + destination.packed
    header[10:12] = checksum(bytes(header)).to_bytes(2)
    return bytes(header) + payload


def clear(size: int, number: int, flow: int = 0) -> bytes:
    """The clear packet ``number``, of ``size`` bytes, like no other one."""
    return ipv4(SENDER, behind(flow), UDP, random.Random(number).randbytes(size - IP_BYTES), number)


def unencrypted(spi: int, sequence: int, packet: bytes) -> bytes:
    """What the stand-in engine takes for an ESP packet of GCM."""
    padding = -(len(packet) + 2) % 4
    text = packet + bytes(range(1, padding + 1)) + bytes([padding, IP_IN_IP])
    return ipv4(
        PEER, OURS, ESP, spi.to_bytes(4) + sequence.to_bytes(4) + bytes(IV_BYTES) + text + bytes(ICV_BYTES)
    )


class Tunnels:
    """SAs of one suite in one direction, spread over the DFEs, and the rules or CAM entries that lead to
    them. Packet *n* belongs to SA *n* mod ``count``.

    Parameters
    ----------
    suite : str
        One of :data:`SUITES`.
    direction : Direction
    count, dfes : int
    first : int
        SAs that the gateway has already.
    encrypted : bool
        False: for a gateway whose engines are a stand-in.

    Members
    -------
    sas : list of Sa
    """

    def __init__(
        self,
        suite: str,
        direction: Direction,
        *,
        count: int = 1,
        dfes: int = 1,
        first: int = 0,
        encrypted: bool = True,
    ):
        self._inbound, self._dfes, self._first, self._encrypted = (
            direction == Direction.INBOUND,
            dfes,
            first,
            encrypted,
        )
        source, destination = (PEER, OURS) if self._inbound else (OURS, PEER)
        other = Direction.OUTBOUND if self._inbound else Direction.INBOUND
        self.sas = [
            Sa(
                spi=FIRST_SPI + first + at,
                direction=direction,
                source=source,
                destination=destination,
                mode=Mode.TUNNEL,
                replay_window=64,
                **SUITES[suite],
            )
            for at in range(count)
        ]
        self._peers = [SoftSa(replace(sa, direction=other)) for sa in self.sas]

    async def write(self, driver: Driver) -> None:
        """Makes the gateway know them."""
        await driver.write_route(self._inbound, Route(Port.SERVER if self._inbound else Port.NETWORK))
        for at, sa in enumerate(self.sas):
            await driver.write_sa(*self._place(at), sa, None)
            if self._inbound:
                await driver.add_cam(CamEntry(CamKey(OURS, sa.spi), *self._place(at), int(self._inbound)))
            else:
                await driver.add_rule(self._rule(at))

    async def erase(self, driver: Driver) -> None:
        """Makes the gateway forget them."""
        for at, sa in enumerate(self.sas):
            if self._inbound:
                await driver.remove_cam(CamKey(OURS, sa.spi))
            else:
                await driver.remove_rule(self._rule(at))
            await driver.erase_sa(*self._place(at))

    def clear(self, size: int, number: int) -> bytes:
        """What packet ``number`` carries."""
        return clear(size, number, self._first + number % len(self.sas))

    def frame(self, number: int, packet: bytes) -> bytes:
        """What comes in at the gateway: ``packet``, protected where the SA is inbound."""
        at, turn = number % len(self.sas), number // len(self.sas)
        if not self._inbound:
            return ETHERNET + packet
        if not self._encrypted:
            return ETHERNET + unencrypted(self.sas[at].spi, turn + 1, packet)
        return ETHERNET + self._peers[at].encapsulate(packet)

    def opened(self, frame: bytes) -> bytes:
        """The clear packet of what left the gateway.

        Raises
        ------
        SpigateError
            It is no packet of these SAs, or was changed.
        """
        packet = frame[len(ETHERNET) :]
        if self._inbound:
            return packet
        spi = int.from_bytes(packet[IP_BYTES : IP_BYTES + 4])
        if self._encrypted:
            return self._peers[spi - FIRST_SPI - self._first].decapsulate(packet)
        text = packet[IP_BYTES + ESP_BYTES + IV_BYTES : -ICV_BYTES]
        return text[: -2 - text[-2]]

    def _place(self, at: int) -> tuple[int, int]:
        """DFE and index there."""
        return (self._first + at) % self._dfes, (self._first + at) // self._dfes

    def _rule(self, at: int) -> Rule:
        dfe, index = self._place(at)
        selectors = Selectors(PROTECTED, ip_network(behind(self._first + at)))
        return Rule(
            selectors, frozenset({Port.SERVER}), Action.PROTECT, dfe=dfe, sa=index, route=int(self._inbound)
        )


def misplaced(expected: Sequence[bytes], arrived: Sequence[bytes], flows: int) -> int:
    """How many packets arrived where another one of their SA was due. Packet *n* of ``expected`` belongs to
    SA *n* mod ``flows``, and SAs need not wait for one another.

    Raises
    ------
    Unsound
        What arrived is not what was expected, in whatever order.
    """
    if sorted(expected) != sorted(arrived):
        raise Unsound(
            f"Of {counted(len(expected), 'packet')} {len(set(expected) - set(arrived))} are missing, and "
            f"{len(arrived) - len(set(arrived) & set(expected))} came that should not"
        )
    flow_of = {packet: number % flows for number, packet in enumerate(expected)}
    came: list[list[bytes]] = [[] for _ in range(flows)]
    for packet in arrived:
        came[flow_of[packet]].append(packet)
    return sum(
        due != got
        for flow in range(flows)
        for due, got in zip(expected[flow::flows], came[flow], strict=True)
    )
