# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Which frames of a gateway in hardware are its host's own, and what becomes of those that the host sends.
Sans-I/O.
"""

from collections import deque

from spigate.firmware_py.control.topology import Interface
from spigate.firmware_py.ipsec.packet import (
    ETHERTYPE_ARP,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    IKE_PORT,
    NATT_PORT,
    UDP,
    Ethernet,
    Ip,
    Refused,
    is_neighbour_discovery,
)
from spigate.firmware_py.ipsec.sa import Address
from spigate.firmware_py.tables.punt import InjectMode, PuntHeader
from spigate.hdl.contract.enums import Port, Reason

REMEMBERED = 64
"""Datagrams of IKE in fragments whose first one was seen."""

Injection = tuple[InjectMode, Port, int, bytes]
"""Mode, port, depth, frame."""


class HostStack:
    """Parameters
    ----------
    interfaces : dict of Port to Interface
    """

    def __init__(self, interfaces: dict[Port, Interface]):
        self._interfaces = interfaces
        self._own = {
            address.ip: port for port, interface in interfaces.items() for address in interface.addresses
        }
        self._ports = {interface.mac: port for port, interface in interfaces.items()}
        self._pieces: deque[tuple[Address, Address, int]] = deque(maxlen=REMEMBERED)

    def outward(self, port: Port, frame: bytes) -> Injection | None:
        """What becomes of a frame that the host sends at ``port``: IKE, ARP and neighbour discovery go out
        there. Every other IP packet is a clear one like those at the server port, on which the policies
        decide. None: nothing."""
        try:
            ethernet, packet = Ethernet.parse(frame)
            if ethernet.kind == ETHERTYPE_ARP:
                return InjectMode.DIRECT, port, 0, frame
            if ethernet.kind not in (ETHERTYPE_IPV4, ETHERTYPE_IPV6):
                return None
            ip = Ip.parse(packet)
        except Refused:
            return None
        if self._is_ike(ip) or is_neighbour_discovery(packet, ip):
            return InjectMode.DIRECT, port, 0, frame
        if ip.destination.is_multicast or ip.source.is_unspecified or ip.source.is_link_local:
            return None  # of the link alone, and nobody there wants it
        return InjectMode.CLASSIFY, Port.SERVER, 0, frame

    def _is_ike(self, ip: Ip) -> bool:
        if ip.protocol != UDP or ip.source not in self._own:
            return False
        whole = (ip.source, ip.destination, ip.identification)
        if ip.ports is None:
            known = whole in self._pieces
            if known and not ip.more:
                self._pieces.remove(whole)  # the next datagram with that number is another one
            return known
        if ip.ports[0] not in (IKE_PORT, NATT_PORT):
            return False
        if ip.fragment:
            self._pieces.append(whole)
        return True

    def back(self, header: PuntHeader, frame: bytes) -> Injection | None:
        """A frame of the host's own that the policies let pass in the clear goes out where the host sent
        it. None: it is no such frame. Anybody can claim to be the host: so what no policy was asked about
        (IKE for one of its addresses, ARP, neighbour discovery), and what did not come in as the host's
        frames do (:meth:`outward`), never goes out."""
        port = self._ports.get(frame[6:12])
        if port is None or header.ingress != Port.SERVER or header.reason == Reason.NOT_IP:
            return None
        try:
            _, packet = Ethernet.parse(frame)
            ip = Ip.parse(packet)
        except Refused:
            return None
        if ip.source not in self._own or ip.destination in self._own or is_neighbour_discovery(packet, ip):
            return None
        return InjectMode.DIRECT, port, 0, frame

    def inward(self, ingress: Port, frame: bytes) -> tuple[Port, bytes] | None:
        """The port at which the host gets a frame that ends at the control element, and the frame as it
        gets it: to the port's own Ethernet address, which it may not have where it was decrypted. None: it
        is for somebody else."""
        port = ingress if ingress in self._interfaces else Port.SERVER
        try:
            ethernet, packet = Ethernet.parse(frame)
            if ethernet.kind in (ETHERTYPE_IPV4, ETHERTYPE_IPV6):
                destination = Ip.parse(packet).destination
                if (
                    destination not in self._own
                    and not destination.is_link_local
                    and not destination.is_multicast
                ):
                    return None
                port = self._own.get(destination, port)
        except Refused:
            return None
        return port, frame if frame[0] & 1 else self._interfaces[port].mac + frame[6:]
