# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Dispatch of a DFE: what becomes of a packet, as far as that can be said before the crypto, and which lane
gets it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import Auth, Cipher, Direction, KeySize, Mode, Port, Reason
from spigate.hdl.crypto.interface import Algorithms
from spigate.hdl.csr import layout
from spigate.hdl.dfe import sad
from spigate.hdl.dfe.job import ROWS
from spigate.hdl.dfe.lane import DispatchPort
from spigate.hdl.dfe.writer import Plan
from spigate.hdl.net.descriptor import PacketInfo, Verdict

STEPS = ROWS + sad.READ_CLOCKS
"""Clocks of a decision: the rows of the SA come one a clock, and all else is known when the last one has
come.
"""
ESP_BYTES = 8
"""SPI and sequence number."""
TRAILER_BYTES = 2
"""Pad length and next header."""
TUNNEL_ESP_WORD = 10
"""Where the ESP header lies in a buffer for tunnel mode: behind the longest Ethernet header and five words
of IP.
"""
IP_IN_IP = 4
"""Next header of a tunnelled IPv4 packet."""


WIPE_BYTES = 16
"""Text of a job of zeros."""
WIPE_CLOCKS = 2048
"""So often packets wait for a buffer to be wiped, where there are always some."""


class AtWork:
    """The packet that dispatch decides about, or the zeros in its place.

    Members
    -------
    packet : PacketInfo
        Where ``have`` is 1. ``encrypt``: it is to be encrypted.
    running : unsigned(1)
        A decision runs: the clocks from ``start`` to ``end``, counted by ``step``.
    control : row ``control`` of its SA
        ``tunnel``: its mode.
    lane : range(lanes)
        The packet's, or the last one's. ``candidate``: the next one's, where there is one (``found``).
    wipes : unsigned(1)
        The next one is zeros. ``wiping``: this one is.
    verdict, reason
        What becomes of it, right at the end. ``encrypts``: it is encrypted.
    """

    def __init__(self, lanes: int):
        self.packet = Signal(PacketInfo())
        self.have = Signal()
        self.running = Signal()
        self.step = Signal(range(STEPS))
        self.start = Signal()
        self.end = Signal()
        self.control = Signal(layout.row("sa", "control"))
        self.lane = Signal(range(lanes))
        self.candidate = Signal(range(lanes))
        self.found = Signal()
        self.wipes = Signal()
        self.wiping = Signal()
        self.verdict = Signal(Verdict)
        self.reason = Signal(Reason)
        self.encrypt = self.packet.verdict == Verdict.ENCRYPT
        self.encrypts = (self.verdict == Verdict.ENCRYPT) & ~self.wiping
        self.tunnel = self.control.mode == Mode.TUNNEL


@dataclass(frozen=True)
class Places:
    """Where a packet lies in its buffer, in words from its start, and how long its parts are.

    Members
    -------
    esp : Value
        Word of the ESP header.
    split, shift, frame_end, pad : Value
        As :class:`~spigate.hdl.dfe.writer.Plan` has them, ``frame_end`` as ``end``.
    iv_words, icv_words : Value
    padded_bytes : Value
        Text with its trailer, outbound.
    cipher_bytes : Value
        Text with its trailer, inbound; negative where the packet is too short.
    """

    esp: Value
    split: Value
    shift: Value
    frame_end: Value
    pad: Value
    iv_words: Value
    icv_words: Value
    padded_bytes: Value
    cipher_bytes: Value


def _settled(m, name: str, value, shape=None) -> Signal:
    """``value`` as it was a clock ago."""
    value = Value.cast(value)
    register = Signal(shape or value.shape(), name=name)
    m.d.sync += register.eq(value)
    return register


def _among(value: Value, members: Iterable[int]) -> Value:
    """Whether ``value`` is one of ``members``."""
    return Cat(value == member for member in sorted(members)).any()


class Dispatch(wiring.Component):
    """Decides about one packet after another, in 14 clocks each, and plans its way into a buffer.

    After an SA was erased, every buffer of each lane, one at a time, gets zeros instead of a packet (WIPE),
    and its engine an SA of zeros: AES-256 and HMAC-SHA-256 where it knows them, which fill all that any other
    SA would (:attr:`~spigate.hdl.crypto.interface.Algorithms.fullest`). That is done while there is no
    packet, or once in :data:`WIPE_CLOCKS` clocks.

    ===========  ====================================================================================
    verdict      becomes
    ===========  ====================================================================================
    BYPASS       DROP ``policy`` where its source may not speak in the clear (what came out of a DFE
                 did not come in the clear); PUNT ``ttl_expired``
    ENCRYPT      PUNT ``sa_absent``, PUNT ``ttl_expired``, PUNT ``too_big``, DROP
                 ``sequence_overflow``
    DECRYPT      PUNT ``sa_absent``, DROP ``malformed`` where the text cannot be whole blocks
    all others   DROP
    ===========  ====================================================================================

    An SA is absent where there is none, one of the other direction or of another generation, one whose
    algorithms the engine does not know, or, inbound, one with another SPI.

    Parameters
    ----------
    lanes : int
    sa_entries : int
        SAs of the SAD, a power of two.
    knows : Algorithms
        Of the lanes' engines.

    Members
    -------
    info : In(stream of PacketInfo)
        Packets in the order of the queue.
    sad_start, sad_granted, sad_running, sa, sad_row, sad_data, sad_blank, sad_erased
        To the ``Sad``, as ``start``, ``granted``, ``running``, ``index``, ``row``, ``data``, ``blank``,
        ``erased`` there.
    look, number, exhausted, take
        To the ``SequenceNumbers``; its ``index`` is ``sa``.
    source_start, source, ingress, allowed
        To the ``ClearSources``, as ``start``, ``address``, ``ingress``, ``allowed`` there.
    lane : In(DispatchPort).array(lanes)
    plan : Out(stream of Plan)
        To the ``Writer``.
    order : Out(stream of lane index)
        The lane of each packet. Never waits: give it room for ``BUFFERS`` items a lane.
    """

    def __init__(self, *, lanes: int, sa_entries: int, knows: Algorithms):
        self._lanes, self._sa_entries, self._knows = lanes, sa_entries, knows
        super().__init__(
            {
                "info": In(stream.Signature(PacketInfo())),
                "sad_start": Out(1),
                "sad_granted": In(1),
                "sad_running": Out(1),
                "sa": Out(range(sa_entries)),
                "sad_row": Out(range(ROWS)),
                "sad_data": In(layout.ROW_BITS),
                "sad_blank": Out(1),
                "sad_erased": In(1),
                "look": Out(1),
                "number": In(64),
                "exhausted": In(1),
                "take": Out(1),
                "source_start": Out(1),
                "source": Out(32),
                "ingress": Out(2),
                "allowed": In(1),
                "lane": In(DispatchPort()).array(lanes),
                "plan": Out(stream.Signature(Plan(lanes))),
                "order": Out(stream.Signature(range(max(lanes, 2)))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        work = AtWork(self._lanes)
        self._choose_lane(m, work)
        self._choose_wipe(m, work)
        self._run(m, work)
        self._hand_rows(m, work)
        places = self._lay_out(m, work)
        self._decide(m, work, places)
        self._assign(m, work, places)
        self._plan(m, work, places)
        return m

    def _choose_lane(self, m, work: AtWork) -> None:
        """The next lane with room, seen from the one behind the last used, is found while a decision runs."""
        room = Cat(port.room for port in self.lane)
        m.d.sync += work.found.eq(room.any() & ~work.start)
        with m.Switch(work.lane):
            for last in range(self._lanes):
                with m.Case(last):
                    for ahead in reversed(range(1, self._lanes + 1)):
                        with m.If(room[(last + ahead) % self._lanes]):
                            m.d.sync += work.candidate.eq((last + ahead) % self._lanes)

    def _choose_wipe(self, m, work: AtWork) -> None:
        """Zeros come where nothing waits and nothing is at work, and else when it is time and the next
        buffer is not clean.
        """
        clock = Signal(range(WIPE_CLOCKS + 1))
        due = clock[-1]
        unclean, stale, empty = (
            Cat(getattr(port, name) for port in self.lane) for name in ("unclean", "stale", "empty")
        )
        m.d.sync += [
            work.wipes.eq(
                ~work.start
                & (
                    due & stale.bit_select(work.candidate, 1)
                    | ~work.have & unclean.any() & empty.bit_select(work.candidate, 1)
                )
            ),
            clock.eq(Mux(work.start & work.wipes, 0, clock + ~due)),
        ]

    def _run(self, m, work: AtWork) -> None:
        """Takes packets and goes through the steps."""
        packet, running, step, start, end = work.packet, work.running, work.step, work.start, work.end
        m.d.comb += [
            self.sad_start.eq(~running & (work.have | work.wipes) & work.found),
            start.eq(self.sad_start & self.sad_granted),
            self.sad_running.eq(running),
            self.sad_blank.eq(work.wiping),
            end.eq(running & (step == STEPS - 1) & self.plan.ready),
            self.info.ready.eq(~work.have | end & ~work.wiping),
            self.sa.eq(packet.sa),
            self.look.eq(start),
            self.source_start.eq(start),
            self.source.eq(packet.source),
            self.ingress.eq(packet.ingress),
            self.order.valid.eq(start),
            self.order.payload.eq(work.candidate),
        ]
        with m.If(self.info.ready):
            m.d.sync += [packet.eq(self.info.payload), work.have.eq(self.info.valid)]
        with m.If(start):
            m.d.sync += [
                running.eq(1),
                step.eq(0),
                work.lane.eq(work.candidate),
                work.wiping.eq(work.wipes),
            ]
        with m.Elif(end):
            m.d.sync += running.eq(0)
        with m.Elif(step != STEPS - 1):
            m.d.sync += step.eq(step + 1)

    def _hand_rows(self, m, work: AtWork) -> None:
        """Rows go to the lane as they come; the last one again and again, where the last step waits."""
        step = work.step
        row = Signal(layout.ROW_BITS)
        of_zeros = layout.row("sa", "control").const(self._knows.fullest)
        m.d.comb += [
            self.sad_row.eq(Mux(step < ROWS, step, ROWS - 1)),
            row.eq(self.sad_data | Mux(work.wiping & (step == sad.READ_CLOCKS), of_zeros.as_value(), 0)),
        ]
        with m.If(step == sad.READ_CLOCKS):
            m.d.sync += work.control.eq(row)
        for at, port in enumerate(self.lane):
            mine = Signal(name=f"mine_{at}")
            m.d.comb += [
                mine.eq(work.running & (work.lane == at)),
                port.claim.eq(work.start & (work.candidate == at)),
                port.wipe.eq(work.wipes),
                port.erased.eq(self.sad_erased),
                port.assign.eq(mine & work.end),
                port.row_enable.eq(mine & (step >= sad.READ_CLOCKS)),
                port.row.eq(step - sad.READ_CLOCKS),
                port.row_data.eq(row),
            ]

    def _lay_out(self, m, work: AtWork) -> Places:
        """Where the packet lies in its buffer, and how much of it there is. All of it settles, register
        after register, while the rows come: what it depends on stays to the end.
        """
        packet, control = work.packet, work.control
        encrypt, tunnel = work.encrypt, work.tunnel
        cbc, gcm = control.cipher == Cipher.AES_CBC, control.cipher == Cipher.AES_GCM
        ip_word = Mux(packet.tagged, 5, 4)
        payload_word = _settled(m, "payload_word", ip_word + packet.header_words, 5)
        payload_bytes = _settled(m, "payload_bytes", packet.total_length - (packet.header_words << 2), 16)
        frame_end = _settled(m, "frame_end", (ip_word << 2) + packet.total_length, 12)
        iv_words = _settled(m, "iv_words", Mux(cbc, 4, Mux(gcm, 2, 0)), 3)
        hmac_words = Mux(control.auth == Auth.HMAC_SHA1_96, 3, 0)
        icv_words = _settled(
            m, "icv_words", Mux(gcm | (control.auth == Auth.HMAC_SHA256_128), 4, hmac_words), 3
        )
        plain_bytes = _settled(m, "plain_bytes", Mux(tunnel, packet.total_length, payload_bytes), 12)
        in_blocks, in_words = (plain_bytes + (TRAILER_BYTES + unit - 1) & ~(unit - 1) for unit in (16, 4))
        padded_bytes = _settled(m, "padded_bytes", Mux(cbc, in_blocks, in_words), 12)
        pad = _settled(m, "pad", padded_bytes - plain_bytes - TRAILER_BYTES, 4)
        added_bytes = _settled(m, "added_bytes", ESP_BYTES + (iv_words << 2) + (icv_words << 2), 6)
        cipher_bytes = _settled(m, "cipher_bytes", Cat(payload_bytes, 0) - added_bytes, 17)
        esp = _settled(m, "esp", Mux(encrypt & tunnel, TUNNEL_ESP_WORD, payload_word), 5)
        split = _settled(m, "split", Mux(tunnel, ip_word, payload_word), 5)
        text_word = _settled(m, "text_word", esp + (ESP_BYTES // 4) + iv_words, 5)
        shift = _settled(m, "shift", text_word - split, 5)
        return Places(esp, split, shift, frame_end, pad, iv_words, icv_words, padded_bytes, cipher_bytes)

    def _decide(self, m, work: AtWork, places: Places) -> None:
        """What becomes of the packet."""
        packet, control = work.packet, work.control
        spi_right = _settled(m, "spi_right", control.spi == packet.spi)
        too_big = _settled(m, "too_big", (control.mtu != 0) & (packet.total_length > control.mtu))
        expired = _settled(m, "expired", packet.route.decrement_ttl & (packet.ttl <= 1))
        known = _settled(
            m,
            "known",
            _among(control.cipher, self._knows.ciphers)
            & _among(control.key_size, self._knows.key_sizes or {KeySize.AES128})
            & _among(control.auth, {Auth.NONE, *self._knows.auths}),
        )
        present = _settled(
            m,
            "present",
            control.valid
            & known
            & (packet.sa < self._sa_entries)
            & (control.generation == packet.generation)
            & (control.direction == Mux(work.encrypt, Direction.OUTBOUND, Direction.INBOUND)),
        )
        length, cbc = places.cipher_bytes, control.cipher == Cipher.AES_CBC
        malformed = _settled(
            m, "malformed", length[-1] | (length == 0) | (length[:2] != 0) | (cbc & (length[2:4] != 0))
        )

        def becomes(verdict: Verdict, reason) -> None:
            m.d.sync += [work.verdict.eq(verdict), work.reason.eq(reason)]

        m.d.sync += [work.verdict.eq(packet.verdict), work.reason.eq(Reason.NONE)]
        with m.Switch(packet.verdict):
            with m.Case(Verdict.BYPASS):
                with m.If(~self.allowed & (packet.ingress != Port.RECIRCULATE)):
                    becomes(Verdict.DROP, Reason.POLICY)
                with m.Elif(expired):
                    becomes(Verdict.PUNT, Reason.TTL_EXPIRED)
            with m.Case(Verdict.ENCRYPT):
                with m.If(~present):
                    becomes(Verdict.PUNT, Reason.SA_ABSENT)
                with m.Elif(expired):
                    becomes(Verdict.PUNT, Reason.TTL_EXPIRED)
                with m.Elif(too_big):
                    becomes(Verdict.PUNT, Reason.TOO_BIG)
                with m.Elif(self.exhausted):
                    becomes(Verdict.DROP, Reason.SEQUENCE_OVERFLOW)
            with m.Case(Verdict.DECRYPT):
                with m.If(~present | ~spi_right):
                    becomes(Verdict.PUNT, Reason.SA_ABSENT)
                with m.Elif(malformed):
                    becomes(Verdict.DROP, Reason.MALFORMED)
            with m.Default():
                becomes(Verdict.DROP, packet.reason)

    def _assign(self, m, work: AtWork, places: Places) -> None:
        """The lane's job."""
        wiping, encrypts = work.wiping, work.encrypts
        m.d.comb += self.take.eq(work.end & encrypts)
        for port in self.lane:
            assignment = port.assignment
            m.d.comb += [
                assignment.info.eq(work.packet),
                assignment.info.verdict.eq(Mux(wiping, Verdict.WIPE, work.verdict)),
                assignment.info.reason.eq(work.reason),
                assignment.info.generation.eq(0),  # by now it is the SA's own
                assignment.sequence.eq(Mux(encrypts, self.number, work.packet.sequence)),
                assignment.esp.eq(places.esp),
                assignment.text_bytes.eq(
                    Mux(wiping, WIPE_BYTES, Mux(encrypts, places.padded_bytes, places.cipher_bytes))
                ),
                assignment.iv_words.eq(places.iv_words),
                assignment.icv_words.eq(places.icv_words),
            ]

    def _plan(self, m, work: AtWork, places: Places) -> None:
        """What the writer does with the frame."""
        plan, packet, wiping, encrypts = self.plan.payload, work.packet, work.wiping, work.encrypts
        m.d.comb += [
            self.plan.valid.eq(work.running & (work.step == STEPS - 1)),
            plan.lane.eq(work.lane),
            plan.keep.eq(wiping | (work.verdict != Verdict.DROP)),
            plan.wipe.eq(wiping),
            plan.count_down.eq(
                packet.route.decrement_ttl & (encrypts | ~wiping & (work.verdict == Verdict.BYPASS))
            ),
            plan.tagged.eq(packet.tagged),
            plan.encrypt.eq(encrypts),
            plan.split.eq(places.split),
            plan.shift.eq(places.shift),
            plan.end.eq(places.frame_end),
            plan.pad.eq(places.pad),
            plan.next_header.eq(Mux(work.tunnel, IP_IN_IP, packet.protocol)),
            plan.esp.eq(places.esp),
            plan.iv_words.eq(places.iv_words),
            plan.spi.eq(work.control.spi),
            plan.sequence.eq(self.number),
        ]
