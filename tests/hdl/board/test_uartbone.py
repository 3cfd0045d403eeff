# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""LiteX's framing, byte by byte."""

import struct

import pytest

from spigate.hdl.board.uartbone import Command, UartBone
from tests.hdl.streams import PAUSES, put, simulate, take

PAUSE_CLOCKS = 200


def command(kind: int, address: int, words=(), *, count: int | None = None) -> bytes:
    """A command; ``address`` of a word."""
    head = struct.pack(">BBI", kind, len(words) if count is None else count, address)
    return head + b"".join(word.to_bytes(4, "big") for word in words)


class Memory:
    """What is behind the bus: words by their number, and the accesses in order."""

    def __init__(self, dut):
        self._bus = dut.bus
        self.words, self.accesses = {}, []

    async def serve(self, ctx):
        bus = self._bus
        while True:
            _, _, read, write, at, to, data, strobe = await ctx.tick().sample(
                bus.read, bus.write, bus.read_address, bus.write_address, bus.write_data, bus.write_strobe
            )
            if not (read or write):
                continue
            assert not (read and write)
            await ctx.tick()
            if write:
                assert strobe == 15
                self.words[to] = data
                self.accesses.append(("write", to, data))
                ctx.set(bus.write_done, 1)
            else:
                self.accesses.append(("read", at))
                ctx.set(bus.read_data, self.words.get(at, at ^ 0xA5A5_5A5A))
                ctx.set(bus.read_done, 1)
            await ctx.tick()
            ctx.set(bus.write_done, 0)
            ctx.set(bus.read_done, 0)
            ctx.set(bus.read_data, 0)


def said(sent: list[bytes | int], answers: int, pauses: str = "none") -> tuple[Memory, bytes, int]:
    """What becomes of bytes, with pauses of so many clocks among them: the memory, the answer, and how many
    commands ended half sent.
    """
    dut = UartBone(pause_clocks=PAUSE_CLOCKS)
    memory = Memory(dut)
    source_pause, sink_pause = PAUSES[pauses]()
    answer = bytearray()
    ended = 0

    async def feed(ctx):
        for piece in sent:
            if isinstance(piece, int):
                for _ in range(piece):
                    await ctx.tick()
            else:
                await put(ctx, dut.i, piece, source_pause)
        for _ in range(30):
            await ctx.tick()

    async def read(ctx):
        for _ in range(answers):
            answer.append(await take(ctx, dut.o, sink_pause))

    async def watch(ctx):
        nonlocal ended
        async for _, _, pulse in ctx.tick().sample(dut.timeout):
            ended += pulse

    simulate(dut, feed, read, background=[memory.serve, watch])
    return memory, bytes(answer), ended


@pytest.mark.parametrize("pauses", PAUSES)
def test_words_are_written_and_read_back(pauses):
    words = [0x01020304, 0xDEADBEEF, 0, 0xFFFFFFFF]
    sent = command(Command.WRITE_INCREMENT, 0x8000_4001, words)
    sent += command(Command.READ_INCREMENT, 0x8000_4000, count=5)
    memory, answer, ended = said([sent], 20, pauses)
    assert memory.accesses[:4] == [("write", 0x8000_4001 + at, word) for at, word in enumerate(words)]
    assert list(struct.unpack(">5I", answer)) == [0x8000_4000 ^ 0xA5A5_5A5A, *words]
    assert ended == 0


@pytest.mark.parametrize(
    ("kind", "step"), [(Command.WRITE_FIXED, 0), (Command.WRITE_INCREMENT, 1)], ids=lambda each: str(each)
)
def test_a_write_goes_on_or_stays(kind, step):
    memory, _, _ = said([command(kind, 7, [1, 2, 3])], 0)
    assert memory.accesses == [("write", 7 + step * at, at + 1) for at in range(3)]


@pytest.mark.parametrize("kind", [Command.READ_FIXED, Command.READ_INCREMENT])
def test_a_read_goes_on_or_stays(kind):
    memory, _, _ = said([command(kind, 7, count=3)], 12)
    assert memory.accesses == [("read", 7 + (kind == Command.READ_INCREMENT) * at) for at in range(3)]


def test_the_longest_commands():
    words = list(range(255))
    memory, answer, _ = said(
        [command(Command.WRITE_INCREMENT, 0, words), command(Command.READ_INCREMENT, 0, count=255)], 1020
    )
    assert list(struct.unpack(">255I", answer)) == words
    assert len(memory.accesses) == 510


@pytest.mark.parametrize("kind", Command)
def test_a_length_of_nothing_does_nothing(kind):
    memory, answer, _ = said([command(kind, 3), command(Command.READ_INCREMENT, 9, count=1)], 4)
    assert memory.accesses == [("read", 9)]


def test_noise_before_a_command_is_passed_over():
    noise = bytes(byte for byte in range(256) if byte not in list(Command))
    memory, _, ended = said([noise, command(Command.READ_INCREMENT, 9, count=1)], 4)
    assert (memory.accesses, ended) == ([("read", 9)], 0)


@pytest.mark.parametrize("length", range(1, 14))
def test_a_command_half_sent_ends_with_a_pause(length):
    half = command(Command.WRITE_INCREMENT, 5, [1, 2, 3])[:length]
    memory, _, ended = said([half, PAUSE_CLOCKS + 5, command(Command.READ_INCREMENT, 9, count=1)], 4)
    assert ended == 1
    assert memory.accesses == [("write", 5, 1)] * (length >= 10) + [("read", 9)]


def test_a_shorter_pause_does_not_end_it():
    whole = command(Command.WRITE_INCREMENT, 5, [1])
    sent = [piece for byte in whole for piece in (bytes([byte]), PAUSE_CLOCKS - 5)]
    memory, _, ended = said([*sent[:-1]], 0)
    assert (memory.accesses, ended) == ([("write", 5, 1)], 0)


def test_a_host_that_does_not_read_the_answer_is_waited_for():
    """No pause of the host's ends a command that is whole."""
    dut = UartBone(pause_clocks=PAUSE_CLOCKS)
    memory = Memory(dut)

    async def feed(ctx):
        await put(ctx, dut.i, command(Command.READ_INCREMENT, 2, count=1))
        for _ in range(3 * PAUSE_CLOCKS):
            await ctx.tick()
            assert not ctx.get(dut.timeout)
        answer = bytes([await take(ctx, dut.o) for _ in range(4)])
        assert int.from_bytes(answer) == 2 ^ 0xA5A5_5A5A

    simulate(dut, feed, background=[memory.serve])
