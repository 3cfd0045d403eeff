# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The host link by its registers: where accesses go, what is counted, and that nothing makes it wait."""

import random
import struct
import zlib

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from spigate.hdl.board import host_link
from spigate.hdl.board.host_link import HostLink
from spigate.hdl.contract import rdl
from spigate.hdl.contract.constants import LINK_MAGIC, LINK_MAP
from spigate.hdl.csr.axil import AxiLiteMaster, AxiLiteSlave
from tests.hdl.board.test_rings import as_words, from_words
from tests.hdl.streams import put_packets, simulate, take_packet

REGISTERS = rdl.registers("board")
PUNT, INJECT = REGISTERS["punt"].address, REGISTERS["inject"].address


def at(name: str) -> int:
    return REGISTERS[f"link.{name}"].address


class Host:
    """Accesses on the link's bus. ``crc`` is that of what was written, by zlib."""

    def __init__(self, dut):
        self._bus = dut.bus
        self.crc, self.writes = 0, 0

    async def read(self, ctx, address: int) -> tuple[int, bool]:
        """Word and error."""
        return await self._access(ctx, "read", address)

    async def write(self, ctx, address: int, word: int) -> bool:
        """Error."""
        self.crc = zlib.crc32(struct.pack(">II", address // 4, word), self.crc)
        self.writes += 1
        ctx.set(self._bus.write_data, word)
        ctx.set(self._bus.write_strobe, 15)
        return (await self._access(ctx, "write", address))[1]

    async def _access(self, ctx, way, address):
        bus = self._bus
        ctx.set(getattr(bus, f"{way}_address"), address // 4)
        ctx.set(getattr(bus, way), 1)
        done, clocks = False, 0
        while not done:
            _, _, done, word, error = await ctx.tick().sample(
                getattr(bus, f"{way}_done"), bus.read_data, getattr(bus, f"{way}_error")
            )
            clocks += 1
            assert clocks < host_link.TIMEOUT + 50, f"{way} of {address:#x} waits"
        ctx.set(getattr(bus, way), 0)
        await ctx.tick()
        return word, bool(error)

    async def get(self, ctx, name: str) -> int:
        word, error = await self.read(ctx, at(name))
        assert not error
        return word


class Gateway:
    """Answers AXI4-Lite: words by their address; refuses what lies at 0x8000 and above. A dead one does not
    even take addresses.
    """

    def __init__(self, axil, *, dead=False):
        self._axil, self.dead = axil, dead
        self.words = {}

    async def serve(self, ctx):
        axil = self._axil
        while True:
            await ctx.tick()
            if self.dead:
                continue
            if ctx.get(axil.arvalid):
                address = ctx.get(axil.araddr)
                ctx.set(axil.arready, 1)
                await ctx.tick()
                ctx.set(axil.arready, 0)
                ctx.set(axil.rvalid, 1)
                ctx.set(axil.rdata, self.words.get(address, 0x1111_1111))
                ctx.set(axil.rresp, 2 if address >= 0x8000 else 0)
                await ctx.tick().until(axil.rready)
                ctx.set(axil.rvalid, 0)
            elif ctx.get(axil.awvalid) and ctx.get(axil.wvalid):
                address, word, strobe = ctx.get(axil.awaddr), ctx.get(axil.wdata), ctx.get(axil.wstrb)
                assert strobe == 15
                ctx.set(axil.awready, 1)
                ctx.set(axil.wready, 1)
                await ctx.tick()
                ctx.set(axil.awready, 0)
                ctx.set(axil.wready, 0)
                if address < 0x8000:
                    self.words[address] = word
                ctx.set(axil.bvalid, 1)
                ctx.set(axil.bresp, 2 if address >= 0x8000 else 0)
                await ctx.tick().until(axil.bready)
                ctx.set(axil.bvalid, 0)


def run(test, *, dead=False, background=(), **parameters):
    """Runs ``test(ctx, dut, host, gateway)``."""
    dut = HostLink(beat_bytes=8, **parameters)
    host, gateway = Host(dut), Gateway(dut.axil, dead=dead)

    async def testbench(ctx):
        await test(ctx, dut, host, gateway)

    simulate(dut, testbench, background=[gateway.serve, *background])


def test_it_says_what_it_is():
    async def test(ctx, dut, host, gateway):
        assert await host.get(ctx, "id") == LINK_MAGIC == int.from_bytes(b"SPLK")
        fields = REGISTERS["link.geometry"].unpack(await host.get(ctx, "geometry"))
        assert fields == {"map": LINK_MAP, "punt_bits": 12, "inject_bits": 10, "receive_bytes": 777}

    run(test, punt_bits=12, inject_bits=10, receive_bytes=777)


def test_the_gateway_is_at_0():
    async def test(ctx, dut, host, gateway):
        gateway.words[0x24] = 0xCAFE_0123
        assert await host.read(ctx, 0x24) == (0xCAFE_0123, False)
        assert not await host.write(ctx, 0x7FFC, 0x89AB_CDEF)
        assert gateway.words[0x7FFC] == 0x89AB_CDEF

    run(test)


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        (0x8000, 0x8000),  # the gateway refuses
        (0xFFFC, 0xFFFC),
        (0x1_0040, 0x1_0040),  # behind the link's registers
        (0x1_FFFC, 0x1_FFFC),
        (0x4_0000, 0x4_0000),  # behind the map: nothing is seen there a second time
        (0x8000_0000, 0),  # of the address 31 bits are kept
        (0x3_FFFF_FFFC, 0x7FFF_FFFC),
    ],
)
def test_what_is_refused_is_counted_and_named(address, kept):
    async def test(ctx, dut, host, gateway):
        where = REGISTERS["link.refused_at"]
        assert await host.read(ctx, address) == (0, True)
        assert await host.get(ctx, "refused") == 1
        assert where.unpack(await host.get(ctx, "refused_at")) == {"address": kept, "write": 0}
        assert await host.write(ctx, address, 5)
        assert await host.get(ctx, "refused") == 2
        assert where.unpack(await host.get(ctx, "refused_at")) == {"address": kept, "write": 1}
        assert await host.get(ctx, "writes") == 1
        assert not gateway.words

    run(test)


def test_what_is_written_is_counted_and_summed_as_zlib_does():
    async def test(ctx, dut, host, gateway):
        assert (await host.get(ctx, "crc"), await host.get(ctx, "writes")) == (0, 0)
        source = random.Random(1)
        for _ in range(20):
            address = source.choice(
                [0x0, 0x7FFC, 0x8000, INJECT, INJECT + 0xFFFC, at("id"), 0x4_0000, 1 << 33]
            )
            await host.write(ctx, address, source.getrandbits(32))
            assert await host.get(ctx, "crc") == host.crc
        assert await host.get(ctx, "writes") == host.writes == 20

    run(test)


def test_a_gateway_that_does_not_answer_is_given_up():
    """And what comes behind is answered; when the gateway answers late, nobody takes that for another answer."""

    async def test(ctx, dut, host, gateway):
        gateway.words[0x10] = 0x10
        gateway.words[0x20] = 0x20
        assert await host.read(ctx, 0x10) == (0, True)
        assert await host.get(ctx, "id") == LINK_MAGIC
        assert await host.write(ctx, 0x30, 0x30)
        assert await host.get(ctx, "refused") == 2
        gateway.dead = False
        assert await host.read(ctx, 0x20) == (0x20, False)
        assert not await host.write(ctx, 0x40, 0x40)
        assert gateway.words[0x40] == 0x40

    run(test, dead=True)


def test_a_punt_is_read_at_the_window_and_over_its_end():
    """The ring is half of the window or less, so that a burst may go on where the ring begins anew."""

    async def test(ctx, dut, host, gateway):
        assert await host.get(ctx, "punt_head") == 0
        frames = [random.Random(n).randbytes(1000) for n in range(5)]  # more than the ring
        ctx.set(dut.punt.payload.last, 0)
        tail = 0
        for frame in frames:
            await put_packets(ctx, dut.punt, [frame])
            for _ in range(300):
                await ctx.tick()
            head = await host.get(ctx, "punt_head")
            assert head - tail == await host.get(ctx, "punt_used") == 251
            begin = PUNT + 4 * (tail % 1024)
            words = [(await host.read(ctx, begin + 4 * n))[0] for n in range(head - tail)]
            assert from_words(words) == frame
            assert not await host.write(ctx, at("punt_tail"), head)
            tail = head
            assert await host.get(ctx, "punt_used") == 0

    run(test, punt_bits=10)


def test_a_frame_is_injected():
    async def test(ctx, dut, host, gateway):
        frame = random.Random(5).randbytes(77)
        words = as_words(frame)
        for n, word in enumerate(words):
            assert not await host.write(ctx, INJECT + 4 * n, word)
        assert not await host.write(ctx, at("inject_head"), len(words))
        assert await host.get(ctx, "inject_used") == len(words)
        assert await take_packet(ctx, dut.inject, trimmed=True) == frame
        await ctx.tick()
        assert await host.get(ctx, "inject_tail") == len(words)
        assert await host.get(ctx, "inject_used") == 0
        assert await host.read(ctx, INJECT) == (0, False)

    run(test)


def test_registers_are_answered_while_both_rings_stand_still():
    """Nobody takes injected frames, and the host takes no punts."""

    async def test(ctx, dut, host, gateway):
        ctx.set(dut.punt.valid, 1)
        ctx.set(dut.punt.payload.count, 8)  # a packet without an end: the ring fills up
        for n in range(40):
            await host.write(ctx, INJECT + 4 * n, 36)
        await host.write(ctx, at("inject_head"), 40)
        for _ in range(3100):
            await ctx.tick()
        assert not ctx.get(dut.punt.ready)
        assert not await host.write(ctx, 0x100, 1)
        assert await host.read(ctx, 0x100) == (1, False)
        assert await host.get(ctx, "inject_used") == 40
        assert await host.get(ctx, "punt_used") == 0  # no whole frame

    run(test, punt_bits=10, inject_bits=10)


def test_what_went_wrong_is_counted():
    async def test(ctx, dut, host, gateway):
        for name, count in (("framing_error", 3), ("overrun", 2), ("timeout", 1)):
            ctx.set(getattr(dut, name), 1)
            for _ in range(count):
                await ctx.tick()
            ctx.set(getattr(dut, name), 0)
        assert await host.get(ctx, "framing_errors") == 3
        assert await host.get(ctx, "overruns") == 2
        assert await host.get(ctx, "timeouts") == 1
        await host.write(ctx, INJECT, 0)
        await host.write(ctx, at("inject_head"), 1)
        await ctx.tick().repeat(10)
        assert await host.get(ctx, "inject_bad") == 1
        assert await host.get(ctx, "inject_tail") == 1

    run(test)


@pytest.mark.parametrize("name", ["punt_bits", "inject_bits"])
def test_rings_that_the_map_has_no_room_for_are_refused(name):
    with pytest.raises(ValueError, match="bits must be 10 to 13, not 14"):
        HostLink(beat_bytes=8, **{name: 14})


class Looped(wiring.Component):
    """A master at a slave."""

    def __init__(self):
        self.master, self.slave = AxiLiteMaster(address_width=16), AxiLiteSlave(address_width=16)
        super().__init__(
            {"bus": self.master.signature.members["bus"], "o": self.slave.signature.members["bus"]}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.master, m.submodules.slave = self.master, self.slave
        wiring.connect(m, wiring.flipped(self.bus), self.master.bus)
        wiring.connect(m, self.master.axil, self.slave.axil)
        wiring.connect(m, self.slave.bus, wiring.flipped(self.o))
        return m


@pytest.mark.parametrize("error", [0, 1])
@pytest.mark.parametrize("way", ["read", "write"])
def test_an_access_goes_over_axi_as_it_is(way, error):
    dut = Looped()

    async def ask(ctx):
        for word in (0x100, 0x3FFF):
            ctx.set(getattr(dut.bus, f"{way}_address"), word)
            ctx.set(dut.bus.write_data, ~word & 0xFFFF_FFFF)
            ctx.set(dut.bus.write_strobe, 15)
            ctx.set(getattr(dut.bus, way), 1)
            done = False
            while not done:
                _, _, done, data, failed = await ctx.tick().sample(
                    getattr(dut.bus, f"{way}_done"), dut.bus.read_data, getattr(dut.bus, f"{way}_error")
                )
            ctx.set(getattr(dut.bus, way), 0)
            assert failed == error
            assert way == "write" or data == word * 3
            await ctx.tick()

    async def answer(ctx):
        while True:
            _, _, asked, address, data = await ctx.tick().sample(
                getattr(dut.o, way), getattr(dut.o, f"{way}_address"), dut.o.write_data
            )
            if asked:
                assert way == "read" or data == ~address & 0xFFFF_FFFF
                ctx.set(dut.o.read_data, address * 3)
                ctx.set(getattr(dut.o, f"{way}_error"), error)
                ctx.set(getattr(dut.o, f"{way}_done"), 1)
                await ctx.tick()
                ctx.set(getattr(dut.o, f"{way}_done"), 0)

    simulate(dut, ask, background=[answer])
