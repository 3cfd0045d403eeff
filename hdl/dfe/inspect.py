# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What came out of the crypto: padding, next header, inner IP header, selectors."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Port, Reason
from spigate.hdl.csr import layout
from spigate.hdl.dfe.job import BUFFER_WORDS, STORE_BYTES, BufferRead, Done, RowRead
from spigate.hdl.dfe.selectors import Selectors
from spigate.hdl.net.descriptor import Verdict
from spigate.hdl.net.headers import IP_WORD, IPV4, PORTS, TCP_PROTOCOL, UDP_PROTOCOL
from spigate.hdl.net.martian import destination_is_martian, source_is_martian

IPV4_PROTOCOL, DUMMY_PROTOCOL = 4, 59
"""Next headers: an IPv4 packet (tunnel mode), and a dummy packet (RFC 4303 2.6)."""
NOT_ECT, ECT_1, ECT_0, CONGESTION_EXPERIENCED = range(4)
"""The ECN field (RFC 3168 5)."""
BEAT_WORDS = STORE_BYTES // 4
HEADER_BEATS = 2
"""Beats that are read of an IP header in any case: five words, and the ports behind them."""
SETTLE = 5
"""Clocks from the last beat to the last verdict about it."""


class Task(data.StructLayout):
    """A packet at commit: ``done`` as ``lane`` gave it."""

    def __init__(self):
        super().__init__({"done": Done(), "lane": 3})


class Inspection(data.StructLayout):
    """What is known of a packet before its accounts are made.

    Members
    -------
    task : Task
    reason : unsigned(6)
        NONE, or why a packet with a right ICV is dropped nevertheless: PADDING, DUMMY, MALFORMED, MARTIAN,
        POLICY.
    counts : unsigned(1)
        Its padding is sound, so that ``content`` is known and counts towards the lifetimes.
    content : unsigned(12)
        DECRYPT: bytes of text without trailer.
    next_header : unsigned(8)
        DECRYPT: of the trailer.
    header : unsigned(160)
        Five words of IP header in wire order: the inner one where a tunnel ends here, else the packet's own.
        Undefined for ENCRYPT in tunnel mode, PUNT and DROP. WIPE: zeros, which are read as a packet is.
    ecn : unsigned(2)
        The ECN field that ``header`` is to leave with.
    """

    def __init__(self):
        super().__init__(
            {
                "task": Task(),
                "reason": 6,
                "counts": 1,
                "content": 12,
                "next_header": 8,
                "header": 160,
                "ecn": 2,
            }
        )


class AtWork:
    """The packet that :class:`Inspect` is at.

    Members
    -------
    task : Task
        ``job``, ``info``, ``control``: of it.
    tunnel : unsigned(1)
        Its SA's mode.
    decrypt : unsigned(1)
        It was decrypted, and the ICV is right.
    plain : unsigned(1)
        It is as it came, but for its header.
    """

    def __init__(self):
        self.task = Signal(Task())
        self.job = self.task.done.job
        self.info = self.job.info
        self.control = self.job.control
        self.tunnel = Signal()
        self.decrypt = Signal()
        self.plain = Signal()


class Words:
    """What :class:`Inspect` knows of the words it asked for: the beat that ``arrived`` in this clock, what it
    is, and what follows from it.
    """

    def __init__(self):
        self.start = Signal(name="start")
        self.arrived = Signal(name="arrived")
        self.beat = Signal(8 * STORE_BYTES, name="beat")
        self.is_header, self.is_text, self.is_trailer = (
            Signal(name=name) for name in ("is_header", "is_text", "is_trailer")
        )
        self.header_at = Signal(3, name="header_at")
        self.header_beats = Signal(3, name="header_beats")
        self.header_seen = Signal(name="header_seen")
        self.header_words = Signal(4, name="header_words")
        self.pad_length = Signal(8, name="pad_length")
        self.next_header = Signal(8, name="next_header")
        self.text_beats = Signal(5, name="text_beats")
        self.rows_complete = Signal(name="rows_complete")


class Findings:
    """What :class:`Inspect` found out about the packet.

    Members
    -------
    header, ports
        Five words of IP header, and the word behind the header.
    sum_good : unsigned(1)
        The header's checksum is right.
    padding_bad : unsigned(1)
        Some byte of padding is not the number that it should be.
    content : signed(14)
        Bytes of text without trailer; negative where the padding is longer.
    short, long : unsigned(1)
        The total length is that of no whole header; is more than the text.
    payload_long : unsigned(1)
        Ports can be behind the header.
    """

    def __init__(self):
        self.header = Signal(160)
        self.ports = Signal(32)
        self.sum_good = Signal()
        self.padding_bad = Signal()
        self.content = Signal(signed(14))
        self.short = Signal()
        self.long = Signal()
        self.payload_long = Signal()


class Inspect(wiring.Component):
    """Reads what it needs of a packet from its lane's buffer, and judges: 14 clocks a packet as long as the
    buffer can be read, options and long padding apart.

    DECRYPT, if the ICV is right, in this order:

    - PADDING: pad length beyond the text, or padding that is not 1, 2, 3 ... (RFC 4303 2.4);
    - DUMMY: next header 59 (RFC 4303 2.6);
    - PADDING: tunnel mode and a next header that is not 4 (the SAs of this gateway carry IPv4);
    - MALFORMED, tunnel mode: version, header length, checksum or total length of the inner IPv4 header
      wrong (a text longer than the packet is padding for traffic flow confidentiality, RFC 4303 2.7); or
      with ``copy_tos`` an outer header with ECN CE around an inner one that is Not-ECT (RFC 6040 4.2);
    - POLICY: the selectors do not match. Ports are those of TCP and UDP; other protocols, fragments but the
      first, and packets that end before them have none.

    All others pass. Of what the route counts down and has lived too long the task's route becomes
    RECIRCULATE: rules, which are asked then, hand it to the control element, which answers it (RFC 1812
    5.3.1).

    Members
    -------
    i : In(stream of Task)
    o : Out(stream of Inspection)
    lane : Out(3)
        The lane that ``read`` and ``rows`` mean.
    read : Out(BufferRead)
    rows : Out(RowRead)
    """

    def __init__(self):
        super().__init__(
            {
                "i": In(stream.Signature(Task())),
                "o": Out(stream.Signature(Inspection())),
                "lane": Out(3),
                "read": Out(BufferRead()),
                "rows": Out(RowRead()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        packet, words, found = AtWork(), Words(), Findings()
        verdict = packet.info.verdict
        m.d.comb += [
            packet.tunnel.eq(packet.control.mode),
            packet.decrypt.eq((verdict == Verdict.DECRYPT) & packet.task.done.ok),
            packet.plain.eq(
                (verdict == Verdict.BYPASS)
                | (verdict == Verdict.ENCRYPT) & ~packet.tunnel
                | (verdict == Verdict.WIPE)
            ),
            self.lane.eq(packet.task.lane),
            self.o.payload.task.eq(packet.task),
        ]
        self._fetch(m, packet, words)
        self._sort(m, packet, words)
        selectors = self._rows(m, packet, words)
        # From here on everything runs freely on what has arrived so far; it counts `SETTLE` clocks after
        # the last word.
        self._keep_header(m, words, found)
        self._sum_header(m, words, found)
        self._check_padding(m, words, found)
        self._measure(m, packet, words, found)
        self._select(m, packet, words, found, selectors)
        self._judge(m, packet, words, found, selectors)
        return m

    def _fetch(self, m, packet: AtWork, words: Words) -> None:
        """Takes a task, reads the text's end, then the IP header, then what turns out to be needed beyond
        (options and the ports behind them, then more padding, backwards), and offers the result when
        everything has arrived and been judged.
        """
        job, decrypt = packet.job, packet.decrypt
        # Of the next beat to be read, and beats that were asked for.
        text_at = Signal(range(BUFFER_WORDS))
        header_at = Signal(range(BUFFER_WORDS))
        texts = Signal.like(words.text_beats)
        headers = Signal.like(words.header_beats)
        waiting = Signal(4)
        settled = Signal(range(SETTLE))
        issue = Signal()
        m.d.comb += [
            self.read.buffer.eq(packet.task.done.buffer),
            self.read.address.eq(text_at),
            issue.eq(self.read.enable & self.read.ready),
        ]
        m.d.sync += waiting.eq(waiting + issue - words.arrived)

        def take() -> None:
            m.d.comb += self.i.ready.eq(1)
            m.d.sync += packet.task.eq(self.i.payload)
            with m.If(self.i.valid):
                m.next = "START"

        def read_text() -> None:
            with m.If(issue):
                m.d.sync += [text_at.eq(text_at - BEAT_WORDS), texts.eq(texts + 1)]

        with m.FSM():
            with m.State("IDLE"):
                take()

            with m.State("START"):
                m.d.comb += words.start.eq(1)
                m.d.sync += [
                    text_at.eq(job.esp + job.text_bytes[2:] - BEAT_WORDS),
                    texts.eq(0),
                    header_at.eq(Mux(decrypt & packet.tunnel, job.esp, IP_WORD + job.info.tagged)),
                    headers.eq(0),
                    settled.eq(0),
                ]
                with m.If(decrypt):
                    m.next = "TRAILER"
                with m.Elif(packet.plain):
                    m.next = "HEADER"
                with m.Else():
                    m.next = "DONE"

            with m.State("TRAILER"):
                m.d.comb += self.read.enable.eq(1)
                read_text()
                with m.If(issue):
                    m.next = "HEADER"

            with m.State("HEADER"):
                m.d.comb += [
                    self.read.enable.eq(headers != words.header_beats),
                    self.read.address.eq(header_at),
                ]
                with m.If(issue):
                    m.d.sync += [header_at.eq(header_at + BEAT_WORDS), headers.eq(headers + 1)]
                with m.If(~self.read.enable & words.header_seen):
                    m.next = "PADDING"

            with m.State("PADDING"):
                m.d.comb += self.read.enable.eq(decrypt & (texts != words.text_beats))
                read_text()
                with m.If(~self.read.enable & (waiting == 0) & words.rows_complete):
                    m.d.sync += settled.eq(settled + 1)
                    with m.If(settled == SETTLE - 1):
                        m.next = "DONE"

            with m.State("DONE"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "IDLE"
                    take()

    def _sort(self, m, packet: AtWork, words: Words) -> None:
        """Answers come in the order of the questions: text, header, text. A clock behind them here."""
        beat = words.beat
        trailer_due = Signal()
        m.d.sync += [words.arrived.eq(self.read.valid), beat.eq(self.read.data)]
        m.d.comb += [
            words.is_trailer.eq(words.arrived & trailer_due),
            words.is_header.eq(words.arrived & ~trailer_due & (words.header_at != words.header_beats)),
            words.is_text.eq(words.arrived & ~words.is_header),
        ]
        header_words = beat[:4]
        with m.If(words.start):
            m.d.sync += [
                trailer_due.eq(packet.decrypt),
                words.header_at.eq(0),
                words.header_seen.eq(0),
                words.header_beats.eq(HEADER_BEATS),
            ]
        with m.If(words.is_trailer):
            m.d.sync += [
                trailer_due.eq(0),
                words.pad_length.eq(beat[-16:-8]),
                words.next_header.eq(beat[-8:]),
            ]
        with m.If(words.is_header):
            m.d.sync += words.header_at.eq(words.header_at + 1)
            with m.If(words.header_at == 0):
                m.d.sync += [words.header_seen.eq(1), words.header_words.eq(header_words)]
                with m.If(packet.decrypt & (header_words >= HEADER_BEATS * BEAT_WORDS)):
                    m.d.sync += words.header_beats.eq(header_words[2:] + 1)
        # Known when the header's first beat has been seen: the trailer came before it.
        m.d.sync += words.text_beats.eq(((words.pad_length + 1) >> 4) + 1)

    def _rows(self, m, packet: AtWork, words: Words) -> Selectors:
        """Reads the selectors' rows."""
        m.submodules.selectors = selectors = Selectors()
        names = ("selector_addresses", "selector_ports")
        indices = [rdl.entry("sa")[name].index for name in names]
        wanted = Signal()
        sent = Signal(2, init=2)
        received = Signal(2)
        addresses = Signal(layout.row("sa", names[0]))
        ports = Signal(layout.row("sa", names[1]))
        m.d.comb += [
            wanted.eq(packet.decrypt & packet.control.check_selectors),
            self.rows.buffer.eq(packet.task.done.buffer),
            self.rows.row.eq(Mux(sent[0], indices[1], indices[0])),
            self.rows.enable.eq(wanted & ~sent[1] & ~words.start),
            words.rows_complete.eq(~wanted | received[1]),
            selectors.addresses.eq(addresses),
            selectors.ports.eq(ports),
        ]
        m.d.sync += [
            sent.eq(sent + (self.rows.enable & self.rows.ready)),
            received.eq(received + self.rows.valid),
        ]
        with m.If(self.rows.valid):
            with m.If(received[0]):
                m.d.sync += ports.eq(self.rows.data)
            with m.Else():
                m.d.sync += addresses.eq(self.rows.data)
        with m.If(words.start):
            # A packet that wants none leaves none to be asked for: the next one's task is there before it
            # starts.
            m.d.sync += [sent.eq(Mux(wanted, 0, 2)), received.eq(0)]
        return selectors

    def _keep_header(self, m, words: Words, found: Findings) -> None:
        """The header, and the ports in the word behind it."""
        beat, header_words = words.beat, words.header_words
        m.d.comb += self.o.payload.header.eq(found.header)
        with m.If(words.start):
            m.d.sync += found.ports.eq(0)
        with m.If(words.is_header):
            for at in range(HEADER_BEATS):
                with m.If(words.header_at == at):
                    part = found.header[at * len(beat) : (at + 1) * len(beat)]
                    m.d.sync += part.eq(beat[: len(part)])
            with m.If((words.header_at == header_words[2:]) & (words.header_at != 0)):
                m.d.sync += found.ports.eq(beat.word_select(header_words[:2], 32))

    def _sum_header(self, m, words: Words, found: Findings) -> None:
        """One's complement sum of the header (RFC 1071: in either byte order)."""
        beat = words.beat
        in_header = Signal(BEAT_WORDS)  # which words of the next beat are in the header
        known_words = Mux(words.header_at == 0, beat[:4], words.header_words)
        with m.If(words.start):
            m.d.sync += in_header.eq(~0)
        with m.Elif(words.is_header):
            m.d.sync += in_header.eq(
                Cat(known_words > BEAT_WORDS * (words.header_at + 1) + word for word in range(BEAT_WORDS))
            )
        counted = [Signal(16, name=f"counted_{at}") for at in range(2 * BEAT_WORDS)]
        sums = [Signal(18, name=f"sum_{half}") for half in range(2)]
        total = Signal(22)
        folded = Signal(17)
        m.d.sync += [
            *(
                word.eq(Mux(words.is_header & in_header[at // 2], beat.word_select(at, 16), 0))
                for at, word in enumerate(counted)
            ),
            *(
                sum_.eq(sum(counted[half * BEAT_WORDS : (half + 1) * BEAT_WORDS]))
                for half, sum_ in enumerate(sums)
            ),
            total.eq(Mux(words.start, 0, total + (sums[0] + sums[1]))),
            folded.eq(total[:16] + total[16:]),
            found.sum_good.eq((folded[:16] + folded[16])[:16] == 0xFFFF),
        ]

    def _check_padding(self, m, words: Words, found: Findings) -> None:
        """Byte b of a beat is to be ``expected + b``, where that is a number of padding at all, 1 or more."""
        beat = words.beat
        text = Signal.like(words.beat)
        text_valid = Signal()
        is_trailer = Signal()
        expected = Signal(signed(10))
        m.d.sync += [text.eq(beat), text_valid.eq(words.is_text), is_trailer.eq(words.is_trailer)]
        with m.If(words.is_text):
            m.d.sync += expected.eq(
                Mux(words.is_trailer, beat[-16:-8] - (STORE_BYTES - 3), expected - STORE_BYTES)
            )
        wrong = []
        for at in range(STORE_BYTES):
            wanted = Signal(signed(10), name=f"wanted_{at}")
            m.d.comb += wanted.eq(expected + at)
            wrong.append(
                (wanted > 0)
                & (text.word_select(at, 8) != wanted[:8])
                & (~is_trailer if at >= STORE_BYTES - 2 else 1)
            )
        with m.If(words.start):
            m.d.sync += found.padding_bad.eq(0)
        with m.Elif(text_valid & Cat(wrong).any()):
            m.d.sync += found.padding_bad.eq(1)

    def _measure(self, m, packet: AtWork, words: Words, found: Findings) -> None:
        """What the lengths say."""
        content = found.content
        length, header_bytes = IPV4.get("total_length", found.header), words.header_words << 2
        m.d.sync += [
            content.eq(packet.job.text_bytes - words.pad_length - 2),
            found.short.eq(length < header_bytes),
            found.long.eq(length > content[:13]),
            found.payload_long.eq(Mux(packet.tunnel, length >= header_bytes + 4, content >= 4)),
        ]
        m.d.comb += [
            self.o.payload.content.eq(content),
            self.o.payload.next_header.eq(words.next_header),
        ]

    def _select(self, m, packet: AtWork, words: Words, found: Findings, selectors: Selectors) -> None:
        """Asks the selectors."""
        header = found.header
        protocol = Signal(8)
        has_ports = Signal()
        m.d.comb += [
            selectors.source.eq(IPV4.get("source", header)),
            selectors.destination.eq(IPV4.get("destination", header)),
            selectors.protocol.eq(protocol),
        ]
        m.d.sync += [
            protocol.eq(Mux(packet.tunnel, IPV4.get("protocol", header), words.next_header)),
            has_ports.eq(
                ((protocol == TCP_PROTOCOL) | (protocol == UDP_PROTOCOL))
                & (IPV4.get("fragment_offset", header) == 0)
            ),
            selectors.has_ports.eq(has_ports & found.payload_long),
            selectors.source_port.eq(PORTS.get("source", found.ports)),
            selectors.destination_port.eq(PORTS.get("destination", found.ports)),
        ]

    def _judge(self, m, packet: AtWork, words: Words, found: Findings, selectors: Selectors) -> None:
        """The verdict, and the ECN field that leaves."""
        header, tunnel, decrypt, o = found.header, packet.tunnel, packet.decrypt, self.o.payload
        # RFC 6040 4.2, figure 4. Where no tunnel ends, the outer field is the inner one.
        inner_ecn = IPV4.get("tos", header)[:2]
        outer_ecn = Signal(2)
        ecn = Signal(2)
        m.d.comb += [
            outer_ecn.eq(Mux(tunnel & packet.control.copy_tos, packet.info.tos, inner_ecn)),
            ecn.eq(inner_ecn),
        ]
        with m.If((outer_ecn == CONGESTION_EXPERIENCED) | (outer_ecn == ECT_1) & (inner_ecn == ECT_0)):
            m.d.comb += ecn.eq(outer_ecn)
        padding = Signal()
        malformed = Signal()
        ttl_over = Signal()
        martian = Signal()
        m.d.sync += [
            padding.eq(found.padding_bad | (found.content < 0)),
            malformed.eq(
                tunnel
                & (
                    (IPV4.get("version", header) != 4)
                    | (words.header_words < 5)
                    | found.short
                    | found.long
                    | ~found.sum_good
                    | (outer_ecn == CONGESTION_EXPERIENCED) & (inner_ecn == NOT_ECT)
                )
            ),
            martian.eq(
                tunnel & (source_is_martian(selectors.source) | destination_is_martian(selectors.destination))
            ),
            ttl_over.eq(packet.info.route.decrement_ttl & (IPV4.get("ttl", header) <= 1)),
        ]
        m.d.comb += [o.reason.eq(Reason.NONE), o.ecn.eq(ecn), o.counts.eq(~padding)]
        route = o.task.done.job.info.route
        with m.If(decrypt & ttl_over):
            m.d.comb += [route.egress.eq(Port.RECIRCULATE), route.rewrite.eq(0), route.decrement_ttl.eq(0)]
        with m.If(decrypt):
            with m.If(padding):
                m.d.comb += o.reason.eq(Reason.PADDING)
            with m.Elif(words.next_header == DUMMY_PROTOCOL):
                m.d.comb += o.reason.eq(Reason.DUMMY)
            with m.Elif(tunnel & (words.next_header != IPV4_PROTOCOL)):
                m.d.comb += o.reason.eq(Reason.PADDING)
            with m.Elif(malformed):
                m.d.comb += o.reason.eq(Reason.MALFORMED)
            with m.Elif(martian):
                m.d.comb += o.reason.eq(Reason.MARTIAN)
            with m.Elif(packet.control.check_selectors & ~selectors.match):
                m.d.comb += o.reason.eq(Reason.POLICY)
