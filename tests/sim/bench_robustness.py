# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Runs in the simulator, for tests/sim/test_robustness.py."""

import random

import cocotb

from spigate.firmware_py.tables.driver import Driver
from spigate.firmware_py.tables.interface import ANY_VLAN, UNLIMITED, CfeSettings
from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Direction, Reason
from spigate.sim.bench_traffic import ETHERNET, Tunnels, clear
from spigate.sim.board import Board
from spigate.sim.build import parameters

MARK = b"plain text of a packet that fails"
"""Is in the text of every packet whose ciphertext is tampered with: it must not be seen outside."""
PACE = 400
"""Clocks between packets of an SA, so that one DFE can do them all: what finds no room in it is dropped."""
HUNG = 100_000
"""Clocks without anything coming of frames inside."""


class Watched:
    """A started board with tunnels; counts what comes of frames.

    Members
    -------
    inbound, outbound : list of Tunnels
        Of each suite one, with an SA for each DFE.
    seen : dict of str to list of bytes
        Frames that left, by port.
    """

    def __init__(self, dut):
        self.board = Board(dut)

    async def start(self, suites=("gcm128",), outbound=False):
        board = self.board
        await board.start()
        self.driver = await Driver.open(board.bus)
        dfes = self.driver.capabilities.dfes
        await self.driver.configure(
            CfeSettings(enable=(1 << dfes) - 1, rates=UNLIMITED, network_vlan=ANY_VLAN, server_vlan=ANY_VLAN)
        )
        self.inbound = [
            Tunnels(suite, Direction.INBOUND, count=dfes, dfes=dfes, first=at * dfes)
            for at, suite in enumerate(suites)
        ]
        self.outbound = [
            Tunnels(suite, Direction.OUTBOUND, count=dfes, dfes=dfes, first=(at + len(suites)) * dfes)
            for at, suite in enumerate(suites if outbound else ())
        ]
        for tunnels in (*self.inbound, *self.outbound):
            await tunnels.write(self.driver)
        self.seen = {}
        for name, sink in (
            ("network", board.network_out),
            ("server", board.server_out),
            ("punt", board.punt),
        ):
            self.seen[name] = []
            sink.on_arrival = lambda arrival, name=name: self.seen[name].append(arrival.frame)
        return self

    async def drops(self):
        register = rdl.registers()["drops"]
        return sum(await self.board.bus.read(register.address, Reason.UNKNOWN_SPI))

    async def settled(self):
        """Waits until in = out + punted + dropped."""
        board, quiet, before = self.board, 0, None
        into = board.network.sent + board.server.sent + board.inject.sent
        while True:
            now = sum(map(len, self.seen.values())) + await self.drops()
            if now == into:
                break
            assert now < into, f"{into} frames in, but {now} out, punted and dropped"
            quiet = 0 if now != before else quiet + 500
            assert quiet < HUNG, (
                f"{into - now} of {into} frames are inside, and nothing has become of them in {HUNG} clocks"
            )
            before = now
            await board.clocks(500)
        await board.clocks(200)
        assert sum(map(len, self.seen.values())) + await self.drops() == into
        board.check()


def mutated(generator, frame):
    """``frame`` with something wrong: bits, length, a part repeated or replaced."""
    frame = bytearray(frame)
    for _ in range(generator.randrange(1, 4)):
        what = generator.randrange(6)
        if what == 0:
            at = generator.randrange(len(frame))
            frame[at] ^= 1 << generator.randrange(8)
        elif what == 1:
            at = min(generator.randrange(12, 60), len(frame) - 1)
            frame[at] = generator.choice((0, 1, 0x45, 0x4F, 0x32, 0x11, 0x7F, 0xFF, generator.randrange(256)))
        elif what == 2:
            del frame[generator.randrange(1, len(frame) + 1) :]
        elif what == 3:
            frame += generator.randbytes(generator.randrange(1, 80))
        elif what == 4:
            frame[12:12] = b"\x81\x00" + generator.randbytes(2)
        else:
            at = generator.randrange(len(frame))
            frame[at : at + 8] = generator.randbytes(8)
        if not frame:
            frame = bytearray(b"\0")
    return bytes(frame)


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def mutated_frames(dut):
    given = parameters()
    generator = random.Random(given["seed"])
    watched = await Watched(dut).start(given["suites"], given.get("outbound", False))
    board = watched.board
    for port in (board.network_out, board.server_out, board.punt, board.network, board.server):
        port.pause(generator.choice((0, 20, 100)))
    for number in range(given["frames"]):
        size, kind = generator.choice((20, 21, 40, 64, 100, 200)), generator.randrange(10)
        into, out = generator.choice(watched.inbound), generator.choice(watched.outbound or [None])
        secret = clear(size + len(MARK), number)[:size] + MARK
        source = board.network if generator.randrange(4) else board.server
        if kind < 4:  # A sound ESP packet, tampered with behind its header: it must fail.
            frame = bytearray(into.frame(number, clear(len(secret), number)[:20] + secret[20:]))
            frame[generator.randrange(42, len(frame))] ^= 1 << generator.randrange(8)
        elif kind < 6:
            frame = mutated(generator, into.frame(number, clear(size, number)))
        elif kind < 8:
            frame = mutated(generator, ETHERNET + (out.clear(size, number) if out else clear(size, number)))
        elif kind < 9:
            frame = generator.randbytes(
                generator.choice((1, 2, 13, 14, 15, 33, 34, 60, 300, 1918, 1919, 1950, 4096))
            )
        elif out and generator.randrange(2):
            frame, source = out.frame(number, out.clear(size, number)), board.server
        else:
            frame = into.frame(number, clear(size, number))
        await source.send(bytes(frame), damaged=generator.randrange(20) == 0)
        if number % 1000 == 999:
            await watched.settled()
    await watched.settled()
    assert watched.seen["server"], "Not one sound packet came through"
    for name, frames in watched.seen.items():
        assert not any(MARK in frame for frame in frames), (
            f"Plain text of a packet that failed came out at {name}"
        )
    # The gateway is unharmed: each SA works.
    for tunnels, source, name in (
        *((each, board.network, "server") for each in watched.inbound),
        *((each, board.server, "network") for each in watched.outbound),
    ):
        for number in range(len(tunnels.sas)):
            before, plain = len(watched.seen[name]), tunnels.clear(100, number)
            await source.send(tunnels.frame(number, plain))
            await watched.settled()
            assert [tunnels.opened(frame) for frame in watched.seen[name][before:]] == [plain]


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def no_control_element(dut):
    watched = await Watched(dut).start()
    board, generator = watched.board, random.Random(parameters()["seed"])
    board.punt.pause(256)
    sent = []
    for number in range(300):
        # ARP and such goes up to nobody; packets of the tunnel go their way.
        await board.network.send(generator.randbytes(12) + b"\x08\x06" + generator.randbytes(46))
        sent.append(clear(100, number))
        await board.network.send(watched.inbound[0].frame(0, sent[-1]))
        await board.clocks(PACE)
    for _ in range(200):
        await board.clocks(500)
        if len(watched.seen["server"]) == len(sent):
            break
    assert [frame[14:] for frame in watched.seen["server"]] == sent
    board.punt.pause(0)
    await watched.settled()
    assert watched.seen["punt"] and (await watched.driver.counters()).drops[Reason.LINK_RATE]


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def port_stands_still(dut):
    watched = await Watched(dut).start()
    board = watched.board
    other = Tunnels(
        "gcm128", Direction.OUTBOUND, first=len(watched.inbound[0].sas), dfes=watched.driver.capabilities.dfes
    )
    await other.write(watched.driver)
    board.server_out.pause(256)
    sent = []
    for number in range(300):
        await board.network.send(watched.inbound[0].frame(0, clear(200, number)))
        sent.append(other.clear(100, number))
        await board.server.send(other.frame(0, sent[-1]))
        await board.clocks(PACE)
    for _ in range(200):
        await board.clocks(500)
        if len(watched.seen["network"]) == len(sent):
            break
    assert [other.opened(frame) for frame in watched.seen["network"]] == sent
    board.server_out.pause(0)
    await watched.settled()
    assert (await watched.driver.counters()).drops[Reason.QUEUE_FULL]
