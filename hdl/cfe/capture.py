# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What the parser keeps of a frame while it comes in."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.cfe.ingress import Origin
from spigate.hdl.net.headers import ESP, FRAME, IP_WORD, IPV4, IPV6, TYPE_IPV6, TYPE_VLAN, UDP, VLAN
from spigate.hdl.net.packet import Beat

PLACES = IP_WORD + 1 + 15 + 3
"""Words of a frame that may be of interest: up to three behind an IPv4 header of 15 words behind a tag."""
VLAN_BITS = 12
"""Of an 802.1Q tag's control information, those that name the VLAN."""
MARKER_WORD = UDP.length // 4
"""Word behind the IP header in which the non-ESP marker lies (RFC 3948 2.2)."""


class Arriving:
    """The frame that comes in, by the places of its words: word 0 begins with the alignment bytes.

    Parameters
    ----------
    beat : Beat

    Members
    -------
    lanes : int
        Words in a beat.
    words : list of Value
        Of the present beat.
    at : Signal
        Its number, which stops behind the last beat that can hold a word of interest: three words behind the
        longest IPv4 header.
    """

    def __init__(self, beat):
        self.lanes = len(beat.data) // 32
        self.words = [beat.data[32 * lane : 32 * lane + 32] for lane in range(self.lanes)]
        self.at = Signal(range(PLACES // self.lanes + 2))
        self._split = self.lanes.bit_length() - 1

    def has(self, place: int) -> Value:
        """Whether word ``place`` is in the present beat."""
        return self.at == place // self.lanes

    def word(self, place: int) -> Value:
        """Word ``place``, where the present beat has it."""
        return self.words[place % self.lanes]

    def is_in(self, place: Signal, lane: int) -> Value:
        """Whether word ``place``, found out from the frame, is that of ``lane`` in the present beat."""
        return (place[self._split :] == self.at) & (place[: self._split] == lane)

    def is_before(self, place: Signal, lane: int) -> Value:
        """Whether the word of ``lane`` in the present beat comes before word ``place``."""
        beat, word = place[self._split :], place[: self._split]
        return (beat > self.at) | (beat == self.at) & (word > lane)


class Capture(wiring.Component):
    """Captures the words of a frame that are of interest: at one place in every frame, at one of two places
    with and without a tag, or behind the IP header, whose first word tells where it ends. From the clock
    behind the last beat on, until the next frame comes, they are right.

    Parameters
    ----------
    beat_bytes : int

    Members
    -------
    beat : In(Beat)
    taken : In(1)
        It is taken in this clock.
    origin : In(Origin)
        Of the packet whose last beat that is.
    first : Out(1)
        ``beat`` is a frame's first.
    in_header : Out(words of a beat)
        Words of ``beat`` that are in the IPv4 header.
    length : Out(12)
        Bytes of the frame.
    frame_origin : Out(Origin)
    station : Out(48)
        Destination of the Ethernet header.
    outer_type, inner_type : Out(16)
        Ethernet types in front of a tag, and in the place behind it.
    tagged : Out(1)
        It has a tag; ``tag_vlan`` is its VLAN.
    ip : Out(32).array(5)
        The first words of the IP header. Of IPv6 the last one is the last one of the destination.
    l4 : Out(32).array(2)
        The first words behind the IP header.
    marker : Out(1)
        The word behind a UDP header is 0.
    """

    def __init__(self, *, beat_bytes: int):
        self._beat_bytes = beat_bytes
        super().__init__(
            {
                "beat": In(Beat(beat_bytes)),
                "taken": In(1),
                "origin": In(Origin()),
                "first": Out(1),
                "in_header": Out(beat_bytes // 4),
                "length": Out(12),
                "frame_origin": Out(Origin()),
                "station": Out(48),
                "outer_type": Out(16),
                "inner_type": Out(16),
                "tagged": Out(1),
                "tag_vlan": Out(VLAN_BITS),
                "ip": Out(32).array(IPV4.length // 4),
                "l4": Out(32).array(ESP.length // 4),
                "marker": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        frame = Arriving(self.beat)
        behind = [Signal(range(PLACES), name=f"behind_{word}") for word in range(MARKER_WORD + 1)]
        m.d.comb += self.first.eq(frame.at == 0)
        with m.If(self.taken):
            with m.If(self.beat.last):
                m.d.sync += frame.at.eq(0)
            with m.Elif(~frame.at.all()):
                m.d.sync += frame.at.eq(frame.at + 1)
        self._take_link(m, frame)
        self._take_network(m, frame, behind)
        self._take_transport(m, frame, behind)
        self._mark_header(m, frame, behind[0])
        return m

    def _take_link(self, m, frame: Arriving) -> None:
        """What lies at one place in every frame: the Ethernet header, and the tag behind it."""
        beat = self.beat
        type_word, tag_word = FRAME["type"].word, FRAME["type"].word + 1
        with m.If(self.taken):
            m.d.sync += [
                self.length.eq(
                    Mux(frame.at == 0, 0, self.length) + Mux(beat.last, beat.count, self._beat_bytes)
                ),
                self.frame_origin.eq(self.origin),
            ]
            with m.If(frame.at == 0):
                m.d.sync += [self.tagged.eq(0), self.station.eq(FRAME.get("destination", beat.data[:64]))]
            with m.If(frame.has(type_word)):
                ethernet_type = FRAME.get("type", frame.word(type_word), word=type_word)
                m.d.sync += [self.outer_type.eq(ethernet_type), self.tagged.eq(ethernet_type == TYPE_VLAN)]
            with m.If(frame.has(tag_word)):
                m.d.sync += [
                    self.inner_type.eq(VLAN.get("type", frame.word(tag_word))),
                    self.tag_vlan.eq(VLAN.get("id", frame.word(tag_word))),
                ]

    def _take_network(self, m, frame: Arriving, behind: list[Signal]) -> None:
        """What lies at two places, with a tag and without: the IP header. Its first word tells where it
        ends.
        """
        ipv6_words = IPV6.length // 4
        # By the time that the last words of an IPv6 header come, this is right.
        looks_ipv6 = Signal()
        m.d.sync += looks_ipv6.eq(Mux(self.tagged, self.inner_type, self.outer_type) == TYPE_IPV6)
        with m.If(self.taken):
            for tag in (0, 1):
                start = IP_WORD + tag
                for at, register in enumerate(self.ip):
                    with m.If(frame.has(start + at) & (self.tagged == tag)):
                        m.d.sync += register.eq(frame.word(start + at))
                with m.If(frame.has(start) & (self.tagged == tag)):
                    first = frame.word(start)
                    version_6 = IPV4.get("version", first) == 6
                    end = Mux(version_6, ipv6_words, IPV4.get("header_words", first)) + start
                    m.d.sync += [place.eq(end + more) for more, place in enumerate(behind)]
                # What is kept of an IPv6 destination, its last word, lies where the IPv4 one does.
                place = start + ipv6_words - 1
                with m.If(frame.has(place) & (self.tagged == tag) & looks_ipv6):
                    m.d.sync += self.ip[-1].eq(frame.word(place))

    def _take_transport(self, m, frame: Arriving, behind: list[Signal]) -> None:
        """What lies behind the IP header: SPI and sequence number, or ports, and the non-ESP marker."""
        with m.If(self.taken):
            for lane, word in enumerate(frame.words):
                here = [frame.is_in(place, lane) for place in behind]
                for register, hit in zip(self.l4, here, strict=False):
                    with m.If(hit):
                        m.d.sync += register.eq(word)
                with m.If(here[MARKER_WORD]):
                    m.d.sync += self.marker.eq(word == 0)

    def _mark_header(self, m, frame: Arriving, end: Signal) -> None:
        """Which words are the IPv4 header's: in its first beat all from its first word on, and then all up to
        what lies behind it.
        """
        begun = Signal()
        with m.If(self.taken):
            m.d.sync += begun.eq(
                ~self.beat.last & (begun | (frame.at == (IP_WORD + self.tagged) // frame.lanes))
            )
        for lane in range(frame.lanes):
            for tag in (0, 1):
                place = IP_WORD + tag
                with m.If(frame.has(place) & (self.tagged == tag)):
                    m.d.comb += self.in_header[lane].eq(lane >= place % frame.lanes)
            with m.If(begun):
                m.d.comb += self.in_header[lane].eq(frame.is_before(end, lane))
