# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What travels beside packets: one typed descriptor a packet, reports of what became of it, and writes to
tables.
"""

from enum import IntEnum
from typing import Any

from amaranth.lib import data

from spigate.hdl.contract.enums import PuntClass
from spigate.hdl.contract.parameters import PARAMETERS
from spigate.hdl.csr import layout

MAX_DFES = max(PARAMETERS["dfes"].allowed)
MARKS = 32
"""SAs of which a word tells what they have reached."""
ALL_DFES = 15
"""Value of ``TableWrite.dfe`` for all of them at once."""
FROM_CFE = 15
"""Value of ``Report.dfe`` for what the CFE reports."""
FROM_FORWARDING = 14
"""Value of ``Report.dfe`` for what the forwarding element reports."""


class Policer(data.StructLayout):
    """A token bucket: ``burst`` tokens, one more every ``period`` clocks. A ``period`` of 0: no limit."""

    def __init__(self):
        super().__init__({"period": 20, "burst": 6})


class CfeControl(data.StructLayout):
    """The CFE's settings, from registers of the same names.

    Members
    -------
    balance : unsigned(2)
        A :data:`Balance`.
    enable : unsigned(MAX_DFES)
        DFEs that may get packets. A rising edge also makes an unhealthy DFE healthy again.
    weights : array of unsigned(4)
        Packets a turn for ``WEIGHTED``; 0 counts as 1.
    patience : unsigned(16)
        Clocks after which a DFE that has packets and finishes none is unhealthy.
    miss_drop : unsigned(1)
        An unknown SPI is dropped (``no_sa``) instead of punted.
    rule_miss : unsigned(2)
        The :data:`Action` for a clear packet that no rule matches: BYPASS makes no sense here and acts as
        PUNT; DISCARD drops (``policy``).
    depth_limit : unsigned(2)
        Recirculations allowed; a packet beyond is dropped (``nested``).
    miss_interval : unsigned(24)
        After a punt for an unknown SPI, packets with the same {destination, SPI} are dropped (``spi_rate``)
        for that many clocks. 0: never.
    punts : array of Policer
        Limits of the classes of punts, by :data:`PuntClass`.
    station_filter : unsigned(2)
        Ports (bit 0 network, 1 server) that take only frames for their own Ethernet address, and group
        addresses.
    network_vlan, server_vlan : unsigned(13)
        The VLAN of each port: identifier (11:0), 0 for untagged frames alone; any of them and none (12).
    network_mac_low, server_mac_low : unsigned(32)
    network_mac_high, server_mac_high : unsigned(16)
        Those addresses, as numbers.
    """

    def __init__(self):
        super().__init__(
            {
                "balance": 2,
                "enable": MAX_DFES,
                "weights": data.ArrayLayout(4, MAX_DFES),
                "patience": 16,
                "miss_drop": 1,
                "rule_miss": 2,
                "depth_limit": 2,
                "miss_interval": 24,
                "punts": data.ArrayLayout(Policer(), len(PuntClass)),
                "station_filter": 2,
                "network_mac_low": 32,
                "network_mac_high": 16,
                "server_mac_low": 32,
                "server_mac_high": 16,
                "network_vlan": 13,
                "server_vlan": 13,
            }
        )


class Verdict(IntEnum):
    """What the CFE decides about a packet."""

    DROP = 0
    PUNT = 1
    BYPASS = 2
    DECRYPT = 3
    ENCRYPT = 4
    DIRECT = 5
    """Injected by the CE for a port: leaves as it is."""
    WIPE = 6
    """Inside a DFE: no packet, but zeros in the place of one, so that nothing of those before it stays."""


class OutOf(data.StructLayout):
    """The SA that a packet was decrypted by, the last one: ``dfe`` and ``sa`` say where it is,
    ``generation`` that no other one is meant that came to be there since. ``valid``: there was one.
    """

    def __init__(self):
        super().__init__({"sa": 16, "dfe": 4, "valid": 1, "generation": 8})


class PacketInfo(data.StructLayout):
    """The CFE's descriptor of one packet, handed to a DFE beside the packet.

    Numbers are numbers (not byte strings). L3 fields are valid where ``ipv4``; ``spi`` and ``sequence`` where
    in addition ``protocol`` is 50.

    Members
    -------
    length : unsigned(12)
        Bytes of the frame, alignment included, up to ``MAX_FRAME``.
    ingress : unsigned(2)
        :data:`Port` it came from; for an injected packet the port that the CE names.
    depth : unsigned(2)
        How often it has been recirculated.
    injected, tagged, ipv4 : unsigned(1)
        It came from the CE; it has an 802.1Q tag; it has a sound IPv4 header.
    header_words : unsigned(4)
        Length of the IPv4 header in 32-bit words, 5 to 15. It begins at byte 16, or 20 where ``tagged``.
    total_length : unsigned(16)
        IPv4 total length in bytes. The frame may be longer (Ethernet padding), never shorter.
    tos, ttl, dont_fragment, protocol, source, destination
        Fields of the IPv4 header.
    spi, sequence : unsigned(32)
        Of the ESP header.
    verdict : unsigned(3)
        A :class:`Verdict`.
    reason : unsigned(6)
        A :data:`Reason`, for DROP and PUNT.
    dfe : unsigned(4)
        The DFE chosen. For a punt because of a miss it is the balancer's choice for the SA to come.
    sa : unsigned(16)
        Index in the DFE's SAD, for DECRYPT and ENCRYPT.
    generation : unsigned(8)
        What the SA's must be, for DECRYPT and ENCRYPT.
    ruled, rule : unsigned(1), unsigned(6)
        A rule decided, and its index.
    clear : unsigned(1)
        The rule lets what it bypasses leave at the network port.
    out_of : OutOf
        For ingress RECIRCULATE.
    route : route row
        Of CAM or rule entry, for BYPASS, DECRYPT and ENCRYPT; for DIRECT only its ``egress``.
    """

    def __init__(self):
        super().__init__(
            {
                "length": 12,
                "ingress": 2,
                "depth": 2,
                "injected": 1,
                "tagged": 1,
                "ipv4": 1,
                "header_words": 4,
                "total_length": 16,
                "tos": 8,
                "ttl": 8,
                "dont_fragment": 1,
                "protocol": 8,
                "source": 32,
                "destination": 32,
                "spi": 32,
                "sequence": 32,
                "verdict": 3,
                "reason": 6,
                "dfe": 4,
                "sa": 16,
                "generation": 8,
                "ruled": 1,
                "rule": 6,
                "clear": 1,
                "out_of": OutOf(),
                "route": layout.row("route", "hop"),
            }
        )


class Egress(data.StructLayout):
    """Where a packet leaves a DFE or the CFE, and why it may.

    Members
    -------
    port : unsigned(2)
        A :data:`Port`.
    depth : unsigned(2)
        For one that recirculates.
    protected : unsigned(1)
        A DFE has encrypted it for an outbound SA.
    bypassed : unsigned(1)
        A rule bypassed it that lets such packets leave at the network port in the clear.
    injected : unsigned(1)
        The CE sent it to leave as it is.
    out_of : OutOf
        For one that recirculates.
    """

    def __init__(self):
        super().__init__(
            {"port": 2, "depth": 2, "protected": 1, "bypassed": 1, "injected": 1, "out_of": OutOf()}
        )


class Report(data.StructLayout):
    """What became of a packet. Every drop is reported exactly once; what is not ``dropped`` is only told
    (soft lifetime).

    ``dfe`` is the reporting DFE, :data:`FROM_CFE` or :data:`FROM_FORWARDING`. Unknown fields are 0.
    """

    def __init__(self):
        super().__init__(
            {
                "reason": 6,
                "dropped": 1,
                "ingress": 2,
                "dfe": 4,
                "sa": 16,
                "spi": 32,
                "sequence": 32,
                "source": 32,
                "destination": 32,
            }
        )


class TableWrite(data.StructLayout):
    """One row of a table entry on its way to the table. The rows of one entry follow one another without rows
    of another between them, ``first`` and ``last`` mark the burst, and the entry becomes visible at once with
    ``last``. An SA may be written in part (some rows). ``dfe`` matters to SA and source tables;
    :data:`ALL_DFES` are all of them.
    """

    def __init__(self):
        super().__init__(
            {"table": 3, "dfe": 4, "index": 16, "row": 4, "data": layout.ROW_BITS, "first": 1, "last": 1}
        )


class StateRequest(data.StructLayout):
    """Asks a DFE for the state of SA ``sa``; ``dfe`` says which."""

    def __init__(self):
        super().__init__({"dfe": 4, "sa": 16})


class SaState(data.StructLayout):
    """The state of an SA: sequence number and window as in the ``replay`` row of its entry, bytes and
    packets so far. ``soft``, ``hard``: which of the 32 SAs around it, those whose index differs in the low
    five bits, have reached a soft or passed a hard limit; bit n is that of the n-th.
    """

    def __init__(self):
        super().__init__(
            {"sequence": 64, "window": 64, "bytes": 64, "packets": 64, "soft": MARKS, "hard": MARKS}
        )


CE_HEADER_BYTES = 16
"""Bytes in front of a frame (its alignment bytes included) on the CE's port. See :class:`PuntHeader`,
:class:`InjectHeader`.
"""


class PuntHeader(data.StructLayout):
    """The 16 bytes in front of a punted frame; byte 0 is ``version``. Multi-byte fields are little-endian.
    ``rule`` is the rule that decided, where ``ruled``; ``from_sa`` to ``from_generation`` are ``out_of`` of
    :class:`PacketInfo`.

    On the CE's port the frame follows with its two alignment bytes, so that its Ethernet header begins at
    byte 18.
    """

    def __init__(self):
        super().__init__(
            {
                "version": 8,
                "reason": 8,
                "ingress": 8,
                "dfe": 8,
                "sa": 16,
                "depth": 8,
                "tagged": 1,
                "rule": 6,
                "ruled": 1,
                "time": 32,
                "from_sa": 16,
                "from_dfe": 4,
                "reserved": 3,
                "from_valid": 1,
                "from_generation": 8,
            }
        )


def punt_header(header, info, *, dfe, time) -> list[Any]:
    """Assigns a :class:`PuntHeader` for the packet ``info`` (:class:`PacketInfo`), which ``dfe`` punts."""
    return [
        header.version.eq(CE_VERSION),
        header.reason.eq(info.reason),
        header.ingress.eq(info.ingress),
        header.dfe.eq(dfe),
        header.sa.eq(info.sa),
        header.depth.eq(info.depth),
        header.tagged.eq(info.tagged),
        header.time.eq(time),
        header.rule.eq(info.rule),
        header.ruled.eq(info.ruled),
        *(header[f"from_{name}"].eq(info.out_of[name]) for name in OutOf().members),
    ]


class InjectHeader(data.StructLayout):
    """The 16 bytes in front of an injected frame. ``mode`` 0: classify it as if it had come in at ``port``;
    1: send it out at ``port`` as it is. ``depth`` and ``from_sa`` to ``from_generation`` as in the punt it
    answers. Two alignment bytes follow, then the frame.
    """

    def __init__(self):
        super().__init__(
            {
                "version": 8,
                "mode": 8,
                "port": 8,
                "depth": 8,
                "from_sa": 16,
                "from_dfe": 4,
                "reserved": 3,
                "from_valid": 1,
                "from_generation": 8,
                "unused": 64,
            }
        )


CE_VERSION = 1


def counters(*names: str) -> data.StructLayout:
    """A layout of 32-bit counters, which wrap."""
    return data.StructLayout({name: 32 for name in names})


CFE_COUNTERS = counters(
    "network_in", "server_in", "inject_in", "recirculate_in", "clear", "hits", "misses", "punts"
)
"""Packets taken from each port; packets classified by rules, found in the CAM, not found in CAM or rules;
punted by the CFE itself.
"""
DFE_COUNTERS = counters(
    "packets_in",
    "packets_out",
    "bytes_in",
    "bytes_out",
    "decrypted",
    "encrypted",
    "bypassed",
    "punts",
    "busy_cycles",
)
"""Of one DFE. Bytes are those of frames without alignment. ``busy_cycles``: clocks in which at least one
packet was inside.
"""
FORWARD_COUNTERS = counters("network_out", "server_out", "punt_out", "recirculated")
"""Packets that went into each egress queue and leave or will leave it."""
