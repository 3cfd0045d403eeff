"""Dispatch of a DFE: what becomes of a packet, as far as that can be said before the crypto, and which lane
gets it.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import Auth, Cipher, Direction, KeySize, Mode, Port, Reason
from spigate.hdl.contract.protocols import IPV4_IN_IP
from spigate.hdl.csr import layout
from spigate.hdl.dfe import sad
from spigate.hdl.dfe.job import ROWS
from spigate.hdl.dfe.lane import DispatchPort
from spigate.hdl.dfe.writer import Plan
from spigate.hdl.net.descriptor import PacketInfo, Verdict
from spigate.hdl.net.headers import ESP

STEPS = ROWS + sad.READ_CLOCKS
"""Clocks of a decision: the rows of the SA come one a clock, and all else is known when the last one has
come.
"""
TRAILER_BYTES = 2
"""Pad length and next header."""
TUNNEL_ESP_WORD = 10
"""Where the ESP header lies in a buffer for tunnel mode: behind the longest Ethernet header and five words
of IP.
"""


WIPE_BYTES = 16
"""Text of a job of zeros."""
WIPE_CLOCKS = 2048
"""So often packets wait for a buffer to be wiped, where there are always some."""


class Dispatch(wiring.Component):
    """Decides about one packet after another, in 14 clocks each, and plans its way into a buffer.

    After an SA was erased, every buffer of each lane, one at a time, gets zeros instead of a packet (WIPE),
    and its engine an SA of zeros: AES-256 and HMAC-SHA-256, which fill all that any other SA would. That is
    done while there is no packet, or once in :data:`WIPE_CLOCKS` clocks.

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

    An SA is absent where there is none, one of the other direction or of another generation, or, inbound,
    one with another SPI.

    Parameters
    ----------
    lanes : int
    sa_entries : int
        SAs of the SAD, a power of two.

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

    def __init__(self, *, lanes: int, sa_entries: int):
        self._lanes, self._sa_entries = lanes, sa_entries
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
        packet, have = Signal(PacketInfo()), Signal()
        running, step = Signal(), Signal(range(STEPS))
        start, end = Signal(), Signal()

        # The next lane with room, seen from the one behind the last used, is found while a decision runs.
        lane, candidate, found = Signal(range(self._lanes)), Signal(range(self._lanes)), Signal()
        room = Cat(port.room for port in self.lane)
        m.d.sync += found.eq(room.any() & ~start)
        with m.Switch(lane):
            for last in range(self._lanes):
                with m.Case(last):
                    for ahead in reversed(range(1, self._lanes + 1)):
                        with m.If(room[(last + ahead) % self._lanes]):
                            m.d.sync += candidate.eq((last + ahead) % self._lanes)

        # Zeros come where nothing waits and nothing is at work, and else when it is time and the next
        # buffer is not clean.
        wipes, wiping, clock = Signal(), Signal(), Signal(range(WIPE_CLOCKS + 1))
        due = clock[-1]
        unclean, stale, empty = (
            Cat(getattr(port, name) for port in self.lane) for name in ("unclean", "stale", "empty")
        )
        m.d.sync += [
            wipes.eq(
                ~start
                & (
                    due & stale.bit_select(candidate, 1)
                    | ~have & unclean.any() & empty.bit_select(candidate, 1)
                )
            ),
            clock.eq(Mux(start & wipes, 0, clock + ~due)),
        ]

        m.d.comb += [
            self.sad_start.eq(~running & (have | wipes) & found),
            start.eq(self.sad_start & self.sad_granted),
            self.sad_running.eq(running),
            self.sad_blank.eq(wiping),
            end.eq(running & (step == STEPS - 1) & self.plan.ready),
            self.info.ready.eq(~have | end & ~wiping),
            self.sa.eq(packet.sa),
            self.look.eq(start),
            self.source_start.eq(start),
            self.source.eq(packet.source),
            self.ingress.eq(packet.ingress),
            self.order.valid.eq(start),
            self.order.payload.eq(candidate),
        ]
        with m.If(self.info.ready):
            m.d.sync += [packet.eq(self.info.payload), have.eq(self.info.valid)]
        with m.If(start):
            m.d.sync += [running.eq(1), step.eq(0), lane.eq(candidate), wiping.eq(wipes)]
        with m.Elif(end):
            m.d.sync += running.eq(0)
        with m.Elif(step != STEPS - 1):
            m.d.sync += step.eq(step + 1)

        # Rows go to the lane as they come; the last one again and again, where the last step waits.
        control, row = Signal(layout.row("sa", "control")), Signal(layout.ROW_BITS)
        of_zeros = layout.row("sa", "control").const(
            {"cipher": Cipher.AES_CBC, "key_size": KeySize.AES256, "auth": Auth.HMAC_SHA256_128}
        )
        m.d.comb += [
            self.sad_row.eq(Mux(step < ROWS, step, ROWS - 1)),
            row.eq(self.sad_data | Mux(wiping & (step == sad.READ_CLOCKS), of_zeros.as_value(), 0)),
        ]
        with m.If(step == sad.READ_CLOCKS):
            m.d.sync += control.eq(row)
        for at, port in enumerate(self.lane):
            mine = Signal(name=f"mine_{at}")
            m.d.comb += [
                mine.eq(running & (lane == at)),
                port.claim.eq(start & (candidate == at)),
                port.wipe.eq(wipes),
                port.erased.eq(self.sad_erased),
                port.assign.eq(mine & end),
                port.row_enable.eq(mine & (step >= sad.READ_CLOCKS)),
                port.row.eq(step - sad.READ_CLOCKS),
                port.row_data.eq(row),
            ]

        # All below settles, register after register, while the rows come: what it depends on stays to the
        # end.
        def settled(name: str, value, shape=None) -> Value:
            value = Value.cast(value)
            register = Signal(shape or value.shape(), name=name)
            m.d.sync += register.eq(value)
            return register

        encrypt = packet.verdict == Verdict.ENCRYPT
        tunnel = control.mode == Mode.TUNNEL
        ip_word = Mux(packet.tagged, 5, 4)
        payload_word = settled("payload_word", ip_word + packet.header_words, 5)
        payload_bytes = settled("payload_bytes", packet.total_length - (packet.header_words << 2), 16)
        frame_end = settled("frame_end", (ip_word << 2) + packet.total_length, 12)
        spi_right = settled("spi_right", control.spi == packet.spi)
        too_big = settled("too_big", (control.mtu != 0) & (packet.total_length > control.mtu))
        expired = settled("expired", packet.route.decrement_ttl & (packet.ttl <= 1))
        present = settled(
            "present",
            control.valid
            & (packet.sa < self._sa_entries)
            & (control.generation == packet.generation)
            & (control.direction == Mux(encrypt, Direction.OUTBOUND, Direction.INBOUND)),
        )
        cbc, gcm = control.cipher == Cipher.AES_CBC, control.cipher == Cipher.AES_GCM
        iv_words = settled("iv_words", Mux(cbc, 4, Mux(gcm, 2, 0)), 3)
        icv_words = settled(
            "icv_words",
            Mux(
                gcm | (control.auth == Auth.HMAC_SHA256_128), 4, Mux(control.auth == Auth.HMAC_SHA1_96, 3, 0)
            ),
            3,
        )

        plain_bytes = settled("plain_bytes", Mux(tunnel, packet.total_length, payload_bytes), 12)
        padded_bytes = settled(
            "padded_bytes",
            Mux(cbc, plain_bytes + (TRAILER_BYTES + 15) & ~15, plain_bytes + (TRAILER_BYTES + 3) & ~3),
            12,
        )
        pad = settled("pad", padded_bytes - plain_bytes - TRAILER_BYTES, 4)
        added_bytes = settled("added_bytes", ESP.length + (iv_words << 2) + (icv_words << 2), 6)
        cipher_bytes = settled("cipher_bytes", Cat(payload_bytes, 0) - added_bytes, 17)
        malformed = settled(
            "malformed",
            cipher_bytes[-1]
            | (cipher_bytes == 0)
            | (cipher_bytes[:2] != 0)
            | (cbc & (cipher_bytes[2:4] != 0)),
        )
        esp = settled("esp", Mux(encrypt & tunnel, TUNNEL_ESP_WORD, payload_word), 5)
        split = settled("split", Mux(tunnel, ip_word, payload_word), 5)
        text_word = settled("text_word", esp + (ESP.length // 4) + iv_words, 5)
        shift = settled("shift", text_word - split, 5)

        verdict, reason = Signal(Verdict), Signal(Reason)
        m.d.sync += [verdict.eq(packet.verdict), reason.eq(Reason.NONE)]

        def becomes(new_verdict: Verdict, why):
            m.d.sync += [verdict.eq(new_verdict), reason.eq(why)]

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

        encrypts = (verdict == Verdict.ENCRYPT) & ~wiping
        m.d.comb += self.take.eq(end & encrypts)
        for port in self.lane:
            assignment = port.assignment
            m.d.comb += [
                assignment.info.eq(packet),
                assignment.info.verdict.eq(Mux(wiping, Verdict.WIPE, verdict)),
                assignment.info.reason.eq(reason),
                assignment.info.generation.eq(0),  # by now it is the SA's own
                assignment.sequence.eq(Mux(encrypts, self.number, packet.sequence)),
                assignment.esp.eq(esp),
                assignment.text_bytes.eq(Mux(wiping, WIPE_BYTES, Mux(encrypts, padded_bytes, cipher_bytes))),
                assignment.iv_words.eq(iv_words),
                assignment.icv_words.eq(icv_words),
            ]
        plan = self.plan.payload
        m.d.comb += [
            self.plan.valid.eq(running & (step == STEPS - 1)),
            plan.lane.eq(lane),
            plan.keep.eq(wiping | (verdict != Verdict.DROP)),
            plan.wipe.eq(wiping),
            plan.count_down.eq(
                packet.route.decrement_ttl & (encrypts | ~wiping & (verdict == Verdict.BYPASS))
            ),
            plan.tagged.eq(packet.tagged),
            plan.encrypt.eq(encrypts),
            plan.split.eq(split),
            plan.shift.eq(shift),
            plan.end.eq(frame_end),
            plan.pad.eq(pad),
            plan.next_header.eq(Mux(tunnel, IPV4_IN_IP, packet.protocol)),
            plan.esp.eq(esp),
            plan.iv_words.eq(iv_words),
            plan.spi.eq(control.spi),
            plan.sequence.eq(self.number),
        ]
        return m
