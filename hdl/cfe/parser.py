"""The classifier's parser: every frame gets exactly one result, from a stream of beats, a beat a clock."""

from enum import IntEnum

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.cfe.checksum import HeaderChecksum
from spigate.hdl.cfe.ingress import Origin
from spigate.hdl.contract.enums import Reason
from spigate.hdl.contract.protocols import AH as AH_PROTOCOL
from spigate.hdl.contract.protocols import ESP as ESP_PROTOCOL
from spigate.hdl.contract.protocols import ETHERTYPE_IPV4 as TYPE_IPV4
from spigate.hdl.contract.protocols import ETHERTYPE_IPV6 as TYPE_IPV6
from spigate.hdl.contract.protocols import ETHERTYPE_VLAN as TYPE_VLAN
from spigate.hdl.contract.protocols import (
    FIRST_SPI,
    IKE_PORT,
    NATT_PORT,
    NEIGHBOUR_DISCOVERY,
    NON_ESP_MARKER,
    VLAN_BITS,
)
from spigate.hdl.contract.protocols import ICMPV6 as ICMPV6_PROTOCOL
from spigate.hdl.contract.protocols import TCP as TCP_PROTOCOL
from spigate.hdl.contract.protocols import UDP as UDP_PROTOCOL
from spigate.hdl.net.descriptor import CfeControl, PacketInfo, Verdict
from spigate.hdl.net.headers import ESP, FRAME, GROUP_BIT, IP_WORD, IPV4, IPV6, PORTS, UDP, VLAN
from spigate.hdl.net.martian import destination_is_martian, is_multicast, source_is_martian
from spigate.hdl.net.packet import packets

LONGEST_HEADER = 15
"""Words of an IPv4 header."""
MARKER_BYTES = len(NON_ESP_MARKER)


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
        lanes = self._beat_bytes // 4
        beat = self.i.payload
        words = [beat.data[32 * lane : 32 * lane + 32] for lane in range(lanes)]
        split = lanes.bit_length() - 1

        # `at` stops behind the last beat that can hold a word of interest: three words behind the longest
        # IPv4 header.
        at = Signal(range((IP_WORD + 1 + LONGEST_HEADER + 3) // lanes + 2))
        m.submodules.checksum = checksum = HeaderChecksum(words=lanes)
        taken, busy, step = Signal(), Signal(), Signal(checksum.latency)
        m.d.comb += [self.i.ready.eq(~(beat.last & busy)), taken.eq(self.i.valid & self.i.ready)]
        m.d.sync += step.eq(step << 1 | (taken & beat.last))
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += busy.eq(0)
        with m.If(taken):
            with m.If(beat.last):
                m.d.sync += [at.eq(0), busy.eq(1)]
            with m.Elif(~at.all()):
                m.d.sync += at.eq(at + 1)

        # Capture. The words that are kept lie at one place, or at two with and without a tag, or behind the
        # IP header.
        tagged, origin = Signal(), Signal(Origin())
        outer_type, inner_type, length = Signal(16), Signal(16), Signal(12)
        tag_vlan = Signal(VLAN_BITS)
        ip = [Signal(32, name=f"ip_{word}") for word in range(IPV4.length // 4)]
        l4 = [Signal(32, name=f"l4_{word}") for word in range(ESP.length // 4)]
        marker = Signal()
        marker_word = UDP.length // 4
        places = [
            Signal(range(IP_WORD + 1 + LONGEST_HEADER + 3), name=f"behind_{word}")
            for word in range(marker_word + 1)
        ]

        station = Signal(48)
        # By the time that the last words of an IPv6 header come, this is right.
        looks_ipv6, ipv6_end = Signal(), IPV6.length // 4
        m.d.sync += looks_ipv6.eq(Mux(tagged, inner_type, outer_type) == TYPE_IPV6)
        type_word, tag_word = FRAME["type"].word, FRAME["type"].word + 1
        with m.If(taken):
            m.d.sync += [
                length.eq(Mux(at == 0, 0, length) + Mux(beat.last, beat.count, self._beat_bytes)),
                origin.eq(self.origin),
            ]
            with m.If(at == 0):
                m.d.sync += [tagged.eq(0), station.eq(FRAME.get("destination", beat.data[:64]))]
            with m.If(at == type_word // lanes):
                ethernet_type = FRAME.get("type", words[type_word % lanes], word=type_word)
                m.d.sync += [outer_type.eq(ethernet_type), tagged.eq(ethernet_type == TYPE_VLAN)]
            with m.If(at == tag_word // lanes):
                m.d.sync += [
                    inner_type.eq(VLAN.get("type", words[tag_word % lanes])),
                    tag_vlan.eq(VLAN.get("id", words[tag_word % lanes])),
                ]
            for tag in (0, 1):
                for word, register in enumerate(ip):
                    place = IP_WORD + tag + word
                    with m.If((at == place // lanes) & (tagged == tag)):
                        m.d.sync += register.eq(words[place % lanes])
                        if word == 0:
                            version_6 = IPV4.get("version", words[place % lanes]) == 6
                            behind = Mux(
                                version_6, ipv6_end, IPV4.get("header_words", words[place % lanes])
                            ) + (IP_WORD + tag)
                            m.d.sync += [
                                behind_word.eq(behind + more) for more, behind_word in enumerate(places)
                            ]
                # What is kept of an IPv6 destination, its last word, lies where the IPv4 one does.
                place = IP_WORD + tag + ipv6_end - 1
                with m.If((at == place // lanes) & (tagged == tag) & looks_ipv6):
                    m.d.sync += ip[-1].eq(words[place % lanes])
            for lane, word in enumerate(words):
                # A place is a beat, and a word in it.
                here = [(place[split:] == at) & (place[:split] == lane) for place in places]
                for register, hit in zip(l4, here, strict=False):
                    with m.If(hit):
                        m.d.sync += register.eq(word)
                with m.If(here[marker_word]):
                    m.d.sync += marker.eq(word == 0)

        # The header's words: in its first beat all from its first word on, and then all up to what lies
        # behind it.
        begun, inside = Signal(), Signal(lanes)
        with m.If(taken):
            m.d.sync += begun.eq(~beat.last & (begun | (at == (IP_WORD + tagged) // lanes)))
        for lane in range(lanes):
            before = (places[0][split:] > at) | (places[0][split:] == at) & (places[0][:split] > lane)
            for tag in (0, 1):
                place = IP_WORD + tag
                with m.If((at == place // lanes) & (tagged == tag)):
                    m.d.comb += inside[lane].eq(lane >= place % lanes)
            with m.If(begun):
                m.d.comb += inside[lane].eq(before)
        m.d.comb += [
            checksum.data.eq(beat.data),
            checksum.include.eq(inside),
            checksum.add.eq(taken),
            checksum.first.eq(at == 0),
        ]

        # Clock 1 behind the last beat: its facts move on, and the next packet may be captured.
        parsed, info = self.o.payload, self.o.payload.info
        header, begin = Cat(ip), Cat(l4)
        more_fragments, fragment_offset, version = Signal(), Signal(13), Signal(4)
        frame_type, direct, zero_marker, udp6, icmp6 = Signal(16), Signal(), Signal(), Signal(), Signal()
        # A frame that the control element sends down again has passed the filter, one that recirculates has
        # no station.
        filtered, address, own = Signal(), Signal(48), Signal(48)
        outside, vlan, own_vlan, own_link = Signal(), Signal(VLAN_BITS), Signal(VLAN_BITS + 1), Signal()
        control = self.control
        with m.If(step[0]):
            m.d.sync += [
                info.length.eq(length),
                info.tagged.eq(tagged),
                frame_type.eq(Mux(tagged, inner_type, outer_type)),
                info.ingress.eq(origin.port),
                info.depth.eq(origin.depth),
                info.injected.eq(origin.injected),
                info.out_of.eq(origin.out_of),
                direct.eq(origin.direct),
                outside.eq(~origin.injected & ~origin.port[1]),
                own_link.eq(~origin.port[1]),
                vlan.eq(Mux(tagged, tag_vlan, 0)),
                own_vlan.eq(Mux(origin.port[0], control.server_vlan, control.network_vlan)),
                filtered.eq(
                    ~origin.injected
                    & (control.station_filter.bit_select(origin.port[0], 1) & ~origin.port[1])
                ),
                address.eq(station),
                own.eq(
                    Mux(
                        origin.port[0],
                        Cat(control.server_mac_low, control.server_mac_high),
                        Cat(control.network_mac_low, control.network_mac_high),
                    )
                ),
                *(
                    info[name].eq(IPV4.get(name, header))
                    for name in (
                        "header_words",
                        "total_length",
                        "tos",
                        "ttl",
                        "dont_fragment",
                        "protocol",
                        "source",
                        "destination",
                    )
                ),
                version.eq(IPV4.get("version", header)),
                more_fragments.eq(IPV4.get("more_fragments", header)),
                fragment_offset.eq(IPV4.get("fragment_offset", header)),
                info.spi.eq(ESP.get("spi", begin)),
                info.sequence.eq(ESP.get("sequence", begin)),
                zero_marker.eq(marker),
                udp6.eq(IPV6.get("next_header", header) == UDP_PROTOCOL),
                icmp6.eq(
                    (IPV6.get("next_header", header) == ICMPV6_PROTOCOL)
                    & (IPV6.get("hop_limit", header) == 255)
                ),
            ]

        # 2: how many bytes there are.
        room, l4_bytes = Signal(13), Signal(17)
        is_ipv4, is_ipv6, fragment, version_right = Signal(), Signal(), Signal(), Signal()
        protocols = {
            number: Signal(name=f"protocol_{number}")
            for number in (TCP_PROTOCOL, UDP_PROTOCOL, ESP_PROTOCOL, AH_PROTOCOL)
        }
        to_ike, to_natt, reserved, foreign, other_vlan, discovers = (
            Signal(),
            Signal(),
            Signal(),
            Signal(),
            Signal(),
            Signal(),
        )
        from_martian, to_martian, in_group = Signal(), Signal(), Signal()
        destination_port, icmp_type = info.spi[:16], info.spi[24:]
        m.d.sync += [
            room.eq(info.length - Mux(info.tagged, FRAME.length + VLAN.length, FRAME.length)),
            l4_bytes.eq(info.total_length - (info.header_words << 2)),
            is_ipv4.eq(frame_type == TYPE_IPV4),
            is_ipv6.eq(frame_type == TYPE_IPV6),
            fragment.eq(more_fragments | fragment_offset.any()),
            version_right.eq((version == 4) & (info.header_words >= 5)),
            *(found.eq(info.protocol == number) for number, found in protocols.items()),
            to_ike.eq(destination_port == IKE_PORT),
            discovers.eq((icmp_type >= NEIGHBOUR_DISCOVERY[0]) & (icmp_type <= NEIGHBOUR_DISCOVERY[-1])),
            foreign.eq(filtered & ~address[GROUP_BIT] & (address != own)),
            other_vlan.eq(outside & ~own_vlan[-1] & (vlan != own_vlan[:-1])),
            from_martian.eq(source_is_martian(info.source)),
            to_martian.eq(destination_is_martian(info.destination)),
            in_group.eq(own_link & address[GROUP_BIT] & ~is_multicast(info.destination)),
            to_natt.eq(destination_port == NATT_PORT),
            reserved.eq(info.spi < FIRST_SPI),
        ]
        # 3: whether they are enough. Negative numbers have their top bit set.
        short, sound, ports_there, esp_there, marker_there = Signal(), Signal(), Signal(), Signal(), Signal()
        udp6_there, icmp6_there = Signal(), Signal()

        def l4_holds(count):
            return ~l4_bytes[-1] & (l4_bytes >= count)

        m.d.sync += [
            short.eq(room[-1]),
            sound.eq(version_right & ~l4_bytes[-1] & (info.total_length <= room)),
            ports_there.eq(l4_holds(PORTS.length)),
            esp_there.eq(l4_holds(ESP.length)),
            marker_there.eq(l4_holds(UDP.length + MARKER_BYTES)),
            udp6_there.eq(
                udp6 & (version == 6) & ~room[-1] & (room >= IPV6.length + UDP.length + MARKER_BYTES)
            ),
            icmp6_there.eq(icmp6 & (version == 6) & ~room[-1] & (room >= IPV6.length + PORTS.length)),
        ]
        # Then, as soon as the checksum is known: decide.
        verdict, reason, decided, is_sound = Signal(Verdict), Signal(Reason), Signal(), Signal()
        own_kind = Signal(Own)
        has_ports = protocols[TCP_PROTOCOL] | protocols[UDP_PROTOCOL]
        m.d.comb += [is_sound.eq(is_ipv4 & sound & checksum.right & ~short), decided.eq(1)]

        def decide(what, why):
            m.d.comb += [verdict.eq(what), reason.eq(why)]

        with m.If(direct):
            decide(Verdict.DIRECT, Reason.NONE)
        with m.Elif(short):
            decide(Verdict.DROP, Reason.MALFORMED)
        with m.Elif(foreign):
            decide(Verdict.DROP, Reason.OTHER_STATION)
        with m.Elif(other_vlan):
            decide(Verdict.DROP, Reason.VLAN)
        with m.Elif(is_ipv6 & icmp6_there & discovers):
            decide(Verdict.PUNT, Reason.NEIGHBOUR)
        with m.Elif(is_ipv6):
            decide(Verdict.PUNT, Reason.IPV6)
            with m.If(udp6_there & (to_ike | to_natt & zero_marker)):
                m.d.comb += own_kind.eq(Own.IKE)
        with m.Elif(~is_ipv4):
            decide(Verdict.PUNT, Reason.NOT_IP)
        with m.Elif(~is_sound):
            decide(Verdict.DROP, Reason.MALFORMED)
        with m.Elif(from_martian | to_martian | in_group):
            decide(Verdict.DROP, Reason.MARTIAN)
        with m.Elif(fragment):
            decide(Verdict.PUNT, Reason.FRAGMENT)
        with m.Elif(protocols[AH_PROTOCOL]):
            decide(Verdict.PUNT, Reason.AH)
        with m.Elif(protocols[ESP_PROTOCOL] & ~esp_there | has_ports & ~ports_there):
            decide(Verdict.DROP, Reason.MALFORMED)
        with m.Elif(protocols[ESP_PROTOCOL] & reserved):
            decide(Verdict.DROP, Reason.RESERVED_SPI)
        with m.Else():
            m.d.comb += decided.eq(0)
            with m.If(protocols[UDP_PROTOCOL] & (to_ike | to_natt & marker_there & zero_marker)):
                m.d.comb += own_kind.eq(Own.IKE)
            with m.Elif(protocols[UDP_PROTOCOL] & to_natt):
                m.d.comb += own_kind.eq(Own.NATT)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(step[-1]):
            m.d.sync += [
                self.o.valid.eq(1),
                info.ipv4.eq(is_sound),
                info.verdict.eq(verdict),
                info.reason.eq(reason),
                parsed.decided.eq(decided),
                parsed.own.eq(own_kind),
                parsed.ipv6.eq(is_ipv6),
                parsed.ports.eq(is_sound & has_ports & ports_there & ~fragment),
            ]
        return m
