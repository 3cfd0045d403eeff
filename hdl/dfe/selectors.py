# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The selectors of an SA against what came out of it (RFC 4301 5.2, step 4)."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.csr import layout

LATENCY = 2
"""Clocks from the inputs of :class:`Selectors` to ``match``."""


class Selectors(wiring.Component):
    """Compares; the answer comes :data:`LATENCY` clocks later.

    Members
    -------
    addresses, ports : In
        Rows ``selector_addresses`` and ``selector_ports`` of the SA. A range of ports from 0 to 65535 matches
        everything, any other one only packets with ports.
    source, destination : In(32)
        Addresses of the packet.
    protocol : In(8)
    has_ports : In(1)
    source_port, destination_port : In(16)
    match : Out(1)
    """

    def __init__(self):
        super().__init__(
            {
                "addresses": In(layout.row("sa", "selector_addresses")),
                "ports": In(layout.row("sa", "selector_ports")),
                "source": In(32),
                "destination": In(32),
                "protocol": In(8),
                "has_ports": In(1),
                "source_port": In(16),
                "destination_port": In(16),
                "match": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        matches = []
        has_ports = Signal()
        m.d.sync += has_ports.eq(self.has_ports)
        for side in ("source", "destination"):
            address, mask = self.addresses[side], self.addresses[f"{side}_mask"]
            port, low, high = (
                getattr(self, f"{side}_port"),
                self.ports[f"{side}_port_low"],
                self.ports[f"{side}_port_high"],
            )
            address_matches = Signal()
            above = Signal()
            below = Signal()
            any_port = Signal()
            m.d.sync += [
                address_matches.eq((getattr(self, side) ^ address) & mask == 0),
                above.eq(port >= low),
                below.eq(port <= high),
                any_port.eq((low == 0) & (high == 0xFFFF)),
            ]
            matches += [address_matches, any_port | has_ports & above & below]
        protocol_matches = Signal()
        m.d.sync += [
            protocol_matches.eq(self.ports.any_protocol | (self.protocol == self.ports.protocol)),
            self.match.eq(protocol_matches & Cat(matches).all()),
        ]
        return m
