# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The classifier's parser: every frame gets exactly one result, from a stream of beats, a beat a clock."""

from enum import IntEnum

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.cfe.capture import VLAN_BITS, Capture
from spigate.hdl.cfe.checksum import HeaderChecksum
from spigate.hdl.cfe.ingress import Origin
from spigate.hdl.contract.enums import Port, Reason
from spigate.hdl.net.descriptor import CfeControl, PacketInfo, Verdict
from spigate.hdl.net.headers import (
    AH_PROTOCOL,
    ESP,
    ESP_PROTOCOL,
    FRAME,
    GROUP_BIT,
    ICMPV6_PROTOCOL,
    IKE_PORT,
    IPV4,
    IPV6,
    NATT_PORT,
    NEIGHBOUR_DISCOVERY,
    PORTS,
    TCP_PROTOCOL,
    TYPE_IPV4,
    TYPE_IPV6,
    UDP,
    UDP_PROTOCOL,
    VLAN,
)
from spigate.hdl.net.martian import destination_is_martian, is_multicast, source_is_martian
from spigate.hdl.net.packet import packets

FIRST_SPI = 256
"""Lower ones are reserved (RFC 4303 2.1)."""
MARKER_BYTES = 4
"""Zero bytes that tell IKE from ESP on port 4500 (RFC 3948 2.2)."""
INFO_OF_IPV4 = (
    "header_words",
    "total_length",
    "tos",
    "ttl",
    "dont_fragment",
    "protocol",
    "source",
    "destination",
)
"""Members of :class:`PacketInfo` that are fields of the IPv4 header."""


class Own(IntEnum):
    """What may be for the gateway itself."""

    NONE = 0
    IKE = 1
    NATT = 2


class Parsed(data.StructLayout):
    """What the parser finds.

    Members
    -------
    info : PacketInfo
        Everything but ``dfe``, ``sa``, ``route``, and what an entry says. ``spi`` is the first word behind
        the IPv4 header: the SPI, or the ports. ``verdict`` and ``reason`` only where ``decided``; DIRECT
        has the port in ``ingress``.
    decided : unsigned(1)
        No table needs to be asked, but for ``own``.
    own : Own
        What the packet is if its destination is one of the gateway's own addresses, which the CAM knows.
    ipv6 : unsigned(1)
        It is IPv6, and the last 32 bits of its destination are in ``destination``.
    ports : unsigned(1)
        TCP or UDP, and ``spi`` is source and destination port.
    """

    def __init__(self):
        super().__init__({"info": PacketInfo(), "decided": 1, "own": Own, "ipv6": 1, "ports": 1})


class Facts:
    """What is found out about a frame behind its last beat, clock after clock.

    Parameters
    ----------
    info : PacketInfo
        The registers of the result, which hold the packet's fields on the way.
    """

    def __init__(self, info):
        self.info = info
        # Clock 1: as captured.
        self.frame_type = Signal(16)
        self.direct = Signal()
        self.version = Signal(4)
        self.more_fragments = Signal()
        self.fragment_offset = Signal(13)
        self.zero_marker = Signal()
        self.udp6 = Signal()
        self.icmp6 = Signal()
        self.own_link = Signal()
        self.outside = Signal()
        self.filtered = Signal()
        self.station = Signal(48)
        self.own_station = Signal(48)
        self.vlan = Signal(VLAN_BITS)
        self.own_vlan = Signal(VLAN_BITS + 1)
        # Clock 2: what it is. Bytes behind the Ethernet and the IP header, negative where they are cut.
        self.room = Signal(13)
        self.l4_bytes = Signal(17)
        self.is_ipv4 = Signal()
        self.is_ipv6 = Signal()
        self.version_right = Signal()
        self.fragment = Signal()
        self.protocols = {
            number: Signal(name=f"protocol_{number}")
            for number in (TCP_PROTOCOL, UDP_PROTOCOL, ESP_PROTOCOL, AH_PROTOCOL)
        }
        self.to_ike = Signal()
        self.to_natt = Signal()
        self.reserved = Signal()
        self.discovers = Signal()
        self.foreign = Signal()
        self.other_vlan = Signal()
        self.from_martian = Signal()
        self.to_martian = Signal()
        self.in_group = Signal()
        # Clock 3: what is whole.
        self.short = Signal()
        self.sound = Signal()
        self.ports_there = Signal()
        self.esp_there = Signal()
        self.marker_there = Signal()
        self.udp6_there = Signal()
        self.icmp6_there = Signal()


class Parser(wiring.Component):
    """Parses Ethernet, one 802.1Q tag, IPv4 with options, and what lies behind it as far as the classifier
    needs it.

    ================================================ ==================================
    shorter than its Ethernet header, or unsound      DROP MALFORMED
    IPv6 neighbour or router discovery                PUNT NEIGHBOUR
    other IPv6; neither IPv4 nor IPv6                 PUNT IPV6; NOT_IP
    an address that is never forwarded, or a group    DROP MARTIAN
    frame with a packet for one host
    fragment; AH                                      PUNT FRAGMENT; AH
    ESP with an SPI below 256                         DROP RESERVED_SPI
    ESP, TCP or UDP too short for SPI and sequence
    number, or ports                                  DROP MALFORMED
    injected to leave as it is                        DIRECT
    everything else                                   undecided
    ================================================ ==================================

    UDP to port 500, or to 4500 with the non-ESP marker, is ``own`` IKE, with IPv6 too where no extension
    header comes between; other UDP of IPv4 to 4500 is NATT.

    Before all of these: a frame for another station, at a port that filters, is DROP OTHER_STATION, one of
    another VLAN than the port's DROP VLAN.

    Never forwarded (RFC 1812 5.3.7, 4.2.3.1, 5.3.5.1; RFC 5771 4): from 0/8, 127/8 and from 224/3; to 0/8,
    127/8, 224.0.0/24 and 240/4. What came in a link-layer broadcast or multicast must be for an IP
    multicast group (RFC 1812 5.3.4). A frame that came out of a DFE has no link layer of its own.

    Sound means (RFC 791, RFC 1122 3.2.1): version 4, a header of five words or more, a total length that
    contains the header and that the frame contains, the header's checksum right.

    Parameters
    ----------
    beat_bytes : int

    Members
    -------
    i : In(packets)
        Frames with alignment, never aborted, of a byte and up to ``MAX_FRAME``. Only a last beat may have
        to wait.
    origin : In(Origin)
        Of the packet whose last beat is at ``i``.
    control : In(CfeControl)
        ``station_filter``, the ports' Ethernet addresses and VLANs.
    o : Out(stream of Parsed)
    """

    def __init__(self, *, beat_bytes: int):
        self._beat_bytes = beat_bytes
        super().__init__(
            {
                "i": In(packets(beat_bytes)),
                "origin": In(Origin()),
                "control": In(CfeControl()),
                "o": Out(stream.Signature(Parsed())),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.capture = capture = Capture(beat_bytes=self._beat_bytes)
        m.submodules.checksum = checksum = HeaderChecksum(words=self._beat_bytes // 4)
        facts, beat = Facts(self.o.payload.info), self.i.payload
        # `step` counts the clocks behind the last beat. The next frame may come in as soon as the facts have
        # been taken over, but not end before they are decided on.
        taken = Signal()
        busy = Signal()
        step = Signal(checksum.latency)
        m.d.comb += [
            self.i.ready.eq(~(beat.last & busy)),
            taken.eq(self.i.valid & self.i.ready),
            capture.beat.eq(beat),
            capture.taken.eq(taken),
            capture.origin.eq(self.origin),
            checksum.data.eq(beat.data),
            checksum.include.eq(capture.in_header),
            checksum.add.eq(taken),
            checksum.first.eq(capture.first),
        ]
        m.d.sync += step.eq(step << 1 | (taken & beat.last))
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += busy.eq(0)
        with m.If(taken):
            with m.If(beat.last):
                m.d.sync += busy.eq(1)
        self._take_over(m, capture, facts, step[0])
        self._recognise(m, facts)
        self._measure(m, facts)
        self._decide(m, facts, checksum.right, step[-1])
        return m

    def _take_over(self, m, capture: Capture, facts: Facts, now) -> None:
        """Clock 1 behind the last beat: its facts move on, and the next packet may be captured."""
        info, origin, control = facts.info, capture.frame_origin, self.control
        header, begin = Cat(capture.ip), Cat(capture.l4)
        own_station = {
            Port.NETWORK: Cat(control.network_mac_low, control.network_mac_high),
            Port.SERVER: Cat(control.server_mac_low, control.server_mac_high),
        }
        with m.If(now):
            m.d.sync += [
                info.length.eq(capture.length),
                info.tagged.eq(capture.tagged),
                info.ingress.eq(origin.port),
                info.depth.eq(origin.depth),
                info.injected.eq(origin.injected),
                info.out_of.eq(origin.out_of),
                *(info[name].eq(IPV4.get(name, header)) for name in INFO_OF_IPV4),
                info.spi.eq(ESP.get("spi", begin)),
                info.sequence.eq(ESP.get("sequence", begin)),
                facts.frame_type.eq(Mux(capture.tagged, capture.inner_type, capture.outer_type)),
                facts.direct.eq(origin.direct),
                facts.version.eq(IPV4.get("version", header)),
                facts.more_fragments.eq(IPV4.get("more_fragments", header)),
                facts.fragment_offset.eq(IPV4.get("fragment_offset", header)),
                facts.zero_marker.eq(capture.marker),
                facts.udp6.eq(IPV6.get("next_header", header) == UDP_PROTOCOL),
                facts.icmp6.eq(
                    (IPV6.get("next_header", header) == ICMPV6_PROTOCOL)
                    & (IPV6.get("hop_limit", header) == 255)
                ),
                # A frame that the control element sends down again has passed the filters, one that
                # recirculates has no link layer of its own.
                facts.own_link.eq(~origin.port[1]),
                facts.outside.eq(~origin.injected & ~origin.port[1]),
                facts.filtered.eq(
                    ~origin.injected
                    & (control.station_filter.bit_select(origin.port[0], 1) & ~origin.port[1])
                ),
                facts.station.eq(capture.station),
                facts.own_station.eq(
                    Mux(origin.port[0], own_station[Port.SERVER], own_station[Port.NETWORK])
                ),
                facts.vlan.eq(Mux(capture.tagged, capture.tag_vlan, 0)),
                facts.own_vlan.eq(Mux(origin.port[0], control.server_vlan, control.network_vlan)),
            ]

    def _recognise(self, m, facts: Facts) -> None:
        """Clock 2: what it is, and how many bytes there are."""
        info, station = facts.info, facts.station
        destination_port, icmp_type = info.spi[:16], info.spi[24:]
        m.d.sync += [
            facts.room.eq(info.length - Mux(info.tagged, FRAME.length + VLAN.length, FRAME.length)),
            facts.l4_bytes.eq(info.total_length - (info.header_words << 2)),
            facts.is_ipv4.eq(facts.frame_type == TYPE_IPV4),
            facts.is_ipv6.eq(facts.frame_type == TYPE_IPV6),
            facts.version_right.eq((facts.version == 4) & (info.header_words >= 5)),
            facts.fragment.eq(facts.more_fragments | facts.fragment_offset.any()),
            *(found.eq(info.protocol == number) for number, found in facts.protocols.items()),
            facts.to_ike.eq(destination_port == IKE_PORT),
            facts.to_natt.eq(destination_port == NATT_PORT),
            facts.reserved.eq(info.spi < FIRST_SPI),
            facts.discovers.eq(
                (icmp_type >= NEIGHBOUR_DISCOVERY[0]) & (icmp_type <= NEIGHBOUR_DISCOVERY[-1])
            ),
            facts.foreign.eq(facts.filtered & ~station[GROUP_BIT] & (station != facts.own_station)),
            facts.other_vlan.eq(facts.outside & ~facts.own_vlan[-1] & (facts.vlan != facts.own_vlan[:-1])),
            facts.from_martian.eq(source_is_martian(info.source)),
            facts.to_martian.eq(destination_is_martian(info.destination)),
            facts.in_group.eq(facts.own_link & station[GROUP_BIT] & ~is_multicast(info.destination)),
        ]

    def _measure(self, m, facts: Facts) -> None:
        """Clock 3: whether there are enough bytes. Negative numbers have their top bit set."""
        room, l4_bytes = facts.room, facts.l4_bytes

        def l4_holds(count: int) -> Value:
            return ~l4_bytes[-1] & (l4_bytes >= count)

        def ipv6_holds(protocol: Value, count: int) -> Value:
            return protocol & (facts.version == 6) & ~room[-1] & (room >= IPV6.length + count)

        m.d.sync += [
            facts.short.eq(room[-1]),
            facts.sound.eq(facts.version_right & ~l4_bytes[-1] & (facts.info.total_length <= room)),
            facts.ports_there.eq(l4_holds(PORTS.length)),
            facts.esp_there.eq(l4_holds(ESP.length)),
            facts.marker_there.eq(l4_holds(UDP.length + MARKER_BYTES)),
            facts.udp6_there.eq(ipv6_holds(facts.udp6, UDP.length + MARKER_BYTES)),
            facts.icmp6_there.eq(ipv6_holds(facts.icmp6, PORTS.length)),
        ]

    def _decide(self, m, facts: Facts, checksum_right, now) -> None:
        """Then, as soon as the checksum is known: what is decided already."""
        parsed, info, protocols = self.o.payload, facts.info, facts.protocols
        verdict = Signal(Verdict)
        reason = Signal(Reason)
        decided = Signal()
        own = Signal(Own)
        is_sound = Signal()
        has_ports = protocols[TCP_PROTOCOL] | protocols[UDP_PROTOCOL]
        m.d.comb += [
            is_sound.eq(facts.is_ipv4 & facts.sound & checksum_right & ~facts.short),
            decided.eq(1),
        ]

        def decide(what: Verdict, why: Reason) -> None:
            m.d.comb += [verdict.eq(what), reason.eq(why)]

        with m.If(facts.direct):
            decide(Verdict.DIRECT, Reason.NONE)
        with m.Elif(facts.short):
            decide(Verdict.DROP, Reason.MALFORMED)
        with m.Elif(facts.foreign):
            decide(Verdict.DROP, Reason.OTHER_STATION)
        with m.Elif(facts.other_vlan):
            decide(Verdict.DROP, Reason.VLAN)
        with m.Elif(facts.is_ipv6 & facts.icmp6_there & facts.discovers):
            decide(Verdict.PUNT, Reason.NEIGHBOUR)
        with m.Elif(facts.is_ipv6):
            decide(Verdict.PUNT, Reason.IPV6)
            with m.If(facts.udp6_there & (facts.to_ike | facts.to_natt & facts.zero_marker)):
                m.d.comb += own.eq(Own.IKE)
        with m.Elif(~facts.is_ipv4):
            decide(Verdict.PUNT, Reason.NOT_IP)
        with m.Elif(~is_sound):
            decide(Verdict.DROP, Reason.MALFORMED)
        with m.Elif(facts.from_martian | facts.to_martian | facts.in_group):
            decide(Verdict.DROP, Reason.MARTIAN)
        with m.Elif(facts.fragment):
            decide(Verdict.PUNT, Reason.FRAGMENT)
        with m.Elif(protocols[AH_PROTOCOL]):
            decide(Verdict.PUNT, Reason.AH)
        with m.Elif(protocols[ESP_PROTOCOL] & ~facts.esp_there | has_ports & ~facts.ports_there):
            decide(Verdict.DROP, Reason.MALFORMED)
        with m.Elif(protocols[ESP_PROTOCOL] & facts.reserved):
            decide(Verdict.DROP, Reason.RESERVED_SPI)
        with m.Else():
            m.d.comb += decided.eq(0)
            marked = facts.to_natt & facts.marker_there & facts.zero_marker
            with m.If(protocols[UDP_PROTOCOL] & (facts.to_ike | marked)):
                m.d.comb += own.eq(Own.IKE)
            with m.Elif(protocols[UDP_PROTOCOL] & facts.to_natt):
                m.d.comb += own.eq(Own.NATT)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(now):
            m.d.sync += [
                self.o.valid.eq(1),
                info.ipv4.eq(is_sound),
                info.verdict.eq(verdict),
                info.reason.eq(reason),
                parsed.decided.eq(decided),
                parsed.own.eq(own),
                parsed.ipv6.eq(facts.is_ipv6),
                parsed.ports.eq(is_sound & has_ports & facts.ports_there & ~facts.fragment),
            ]
