# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The IP header of what leaves a DFE: a new outer one, or the packet's own with its lengths, protocol, TTL
and checksum mended.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import Auth, Cipher, Df
from spigate.hdl.dfe.identification import Identification
from spigate.hdl.dfe.inspect import Inspection
from spigate.hdl.net.descriptor import Verdict
from spigate.hdl.net.headers import ESP, ESP_PROTOCOL, IPV4
from spigate.hdl.net.packet import swap_bytes

IV_BYTES = {Cipher.AES_GCM: 8, Cipher.AES_CBC: 16}
ICV_BYTES = {Auth.HMAC_SHA1_96: 12, Auth.HMAC_SHA256_128: 16}
GCM_ICV_BYTES = 16


class Rewritten(data.StructLayout):
    """``header``: five words of IP header in wire order. ``total_length``: what they say, in bytes."""

    def __init__(self):
        super().__init__({"header": 160, "total_length": 16})


class AtWork:
    """The packet that gets a header.

    Members
    -------
    inspection : Inspection
        ``job``, ``info``, ``control``, ``header``: of it. ``field``: the header's fields by name.
    encrypt, tunnel : unsigned(1)
        Its verdict, and its SA's mode.
    fresh : unsigned(1)
        The header is a new one.
    """

    def __init__(self, inspection):
        self.inspection = inspection
        self.job = inspection.task.done.job
        self.info = self.job.info
        self.control = self.job.control
        self.header = inspection.header
        self.field = {name: IPV4.get(name, inspection.header) for name in IPV4.fields}
        self.encrypt = Signal()
        self.tunnel = Signal()
        self.fresh = Signal()


class Rewrite(wiring.Component):
    """Makes the IP header for a packet that was inspected, and is not dropped or punted.

    ===================  ============================================================================
    ENCRYPT, tunnel      new (RFC 4301 5.1.2.1): TOS from the inner header or the SA, identification
                         of this DFE's sequence (0 with Don't Fragment, RFC 6864 4.1), DF, TTL and
                         addresses from the SA
    ENCRYPT, transport   own: total length, protocol 50
    DECRYPT, tunnel      inner: ECN as RFC 6040 has it, TTL
    DECRYPT, transport   own: total length, protocol of the trailer's next header, TTL
    BYPASS               own
    ===================  ============================================================================

    TTL of what was decrypted is counted down where the route says so (dispatch has done it for the others).
    The checksum of a header that is kept is mended (RFC 1624, equation 3).

    Parameters
    ----------
    dfes : int
        As :class:`~spigate.hdl.dfe.identification.Identification` has it.

    Members
    -------
    i : In(stream of Inspection)
        Stays as it is, and is taken, when ``o`` is taken.
    o : Out(stream of Rewritten)
    index : In(4)
        The DFE's number.
    """

    def __init__(self, *, dfes: int):
        self._dfes = dfes
        super().__init__(
            {"i": In(stream.Signature(Inspection())), "o": Out(stream.Signature(Rewritten())), "index": In(4)}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.numbers = Identification(dfes=self._dfes)
        packet = AtWork(self.i.payload)
        m.d.comb += [
            packet.encrypt.eq(packet.info.verdict == Verdict.ENCRYPT),
            packet.tunnel.eq((packet.info.verdict != Verdict.BYPASS) & packet.control.mode),
            packet.fresh.eq(packet.encrypt & packet.tunnel),
        ]
        # Headers as five numbers, the first byte on the wire highest.
        own = [Signal(32, name=f"own_{word}") for word in range(5)]
        new = [Signal(32, name=f"new_{word}") for word in range(5)]
        m.d.comb += [
            word.eq(swap_bytes(packet.header[32 * at : 32 * at + 32])) for at, word in enumerate(own)
        ]
        total = self._measure(m, packet)
        self._make(m, packet, total, own, new)
        self._sum(m, packet, own, new)
        m.d.comb += self.o.payload.total_length.eq(total)
        return m

    def _measure(self, m, packet: AtWork) -> Signal:
        """Total length, in two steps."""
        info, control, encrypt, tunnel = packet.info, packet.control, packet.encrypt, packet.tunnel
        around = Signal(7)
        size = Signal(13)
        total = Signal(16)
        gcm, header_bytes = control.cipher == Cipher.AES_GCM, info.header_words << 2
        m.d.sync += [
            around.eq(
                ESP.length
                + self._choose(control.cipher, IV_BYTES)
                + Mux(gcm, GCM_ICV_BYTES, self._choose(control.auth, ICV_BYTES))
                + Mux(tunnel, IPV4.length, header_bytes)
            ),
            size.eq(Mux(encrypt, packet.job.text_bytes + around, packet.inspection.content + header_bytes)),
            total.eq(
                Mux(
                    encrypt | (info.verdict == Verdict.DECRYPT) & ~tunnel,
                    size,
                    packet.field["total_length"],
                )
            ),
        ]
        return total

    def _make(self, m, packet: AtWork, total, own, new) -> None:
        """The new header but for its checksum."""
        numbers = m.submodules.numbers
        info, control, job, fresh = packet.info, packet.control, packet.job, packet.fresh
        decrypt = info.verdict == Verdict.DECRYPT
        tos = Signal(8)
        ttl = Signal(8)
        protocol = Signal(8)
        dont_fragment = Signal()
        identification = Signal(16)
        m.d.comb += [
            numbers.index.eq(self.index),
            numbers.take.eq(self.i.ready & fresh & ~dont_fragment),
            identification.eq(Mux(dont_fragment, 0, numbers.number)),
        ]
        with m.Switch(control.df):
            with m.Case(Df.CLEAR):
                m.d.comb += dont_fragment.eq(0)
            with m.Case(Df.COPY):
                m.d.comb += dont_fragment.eq(info.dont_fragment)
            with m.Default():
                m.d.comb += dont_fragment.eq(1)
        m.d.sync += [
            tos.eq(Cat(packet.inspection.ecn, packet.field["tos"][2:])),
            ttl.eq(packet.field["ttl"] - (info.route.decrement_ttl & decrypt)),
            protocol.eq(packet.field["protocol"]),
        ]
        with m.If(packet.encrypt | ~packet.tunnel & decrypt):
            m.d.sync += protocol.eq(Mux(packet.encrypt, ESP_PROTOCOL, packet.inspection.next_header))
        with m.If(fresh):
            m.d.sync += [
                tos.eq(Mux(control.copy_tos, info.tos, control.outer_tos)),
                ttl.eq(control.outer_ttl),
            ]
        flags = Cat(Const(0, 14), dont_fragment, Const(0, 1))
        m.d.comb += [
            new[0].eq(Cat(total, tos, Mux(fresh, 0x45, own[0][24:]))),
            new[1].eq(Mux(fresh, Cat(flags, identification), own[1])),
            new[2].eq(Cat(Const(0, 16), protocol, ttl)),
            new[3].eq(Mux(fresh, job.tunnel.source, own[3])),
            new[4].eq(Mux(fresh, job.tunnel.destination, own[4])),
        ]

    def _sum(self, m, packet: AtWork, own, new) -> None:
        """The checksum, two terms a clock. A new header: all its halves. An old one: what it was the
        complement of, less the old, plus the new. With it the header is offered.
        """
        high, low = slice(16, 32), slice(0, 16)
        of_new = (
            (new[0][high], new[1][high]),
            (new[0][low], new[1][low]),
            (new[2][high], new[3][high]),
            (new[3][low], new[4][high]),
            (new[4][low], 0),
        )
        mended = (
            (~own[2][low], ~own[0][high]),
            (~own[0][low], new[0][high]),
            (~own[2][high], new[0][low]),
            (new[2][high], 0),
            (0, 0),
        )
        carries = 2
        # The fields above are ready in step 2, and terms are added a clock after they were chosen.
        first, last = 3, 2 + len(of_new) + carries
        step = Signal(range(last + 2))
        term = Signal(17)
        total_sum = Signal(18)
        m.d.sync += term.eq(0)
        with m.Switch(step):
            for at, pairs in enumerate(zip(of_new, mended, strict=True)):
                with m.Case(at + first - 1):
                    m.d.sync += term.eq(sum(Mux(packet.fresh, *terms) for terms in zip(*pairs, strict=True)))
        m.d.sync += total_sum.eq(Mux(step < first, 0, total_sum[:16] + term + total_sum[16:]))
        with m.If(self.i.valid & (step != last + 1)):
            m.d.sync += step.eq(step + 1)
        header = [*new]
        header[2] = new[2] | ~total_sum[:16]
        m.d.comb += [
            self.o.valid.eq(step == last + 1),
            self.o.payload.header.eq(Cat(swap_bytes(word) for word in header)),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.comb += self.i.ready.eq(1)
            m.d.sync += step.eq(0)

    @staticmethod
    def _choose(value, sizes):
        """The size that ``sizes`` names for ``value``, else 0."""
        chosen = 0
        for key, size in sizes.items():
            chosen = Mux(value == key, size, chosen)
        return chosen
