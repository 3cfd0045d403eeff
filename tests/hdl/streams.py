# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Sources and sinks for stream tests in Amaranth's simulator: packets or payloads, with pauses on either
side.
"""

import random
from collections.abc import Callable, Iterable

from amaranth.lib import wiring
from amaranth.sim import Simulator

from tests.formal.streams import Watched

PERIOD = 1e-8
Pause = Callable[[], bool]


def never() -> bool:
    """No pause: back to back."""
    return False


def sometimes(seed: int, share: float = 0.5) -> Pause:
    """Pauses a ``share`` of the clocks."""
    source = random.Random(seed)
    return lambda: source.random() < share


PAUSES = {
    "none": lambda: (never, never),
    "source": lambda: (sometimes(1, 0.7), never),
    "sink": lambda: (never, sometimes(2, 0.7)),
    "both": lambda: (sometimes(3), sometimes(4)),
}
"""Pairs of pauses (source, sink) by name, for ``pytest.mark.parametrize("pauses", PAUSES)``; call the value
for fresh ones.
"""


def beats(packet: bytes, beat_bytes: int, abort: bool = False) -> list[dict]:
    """``packet`` as values of ``Beat``. Bytes behind the end are filled with 0xa5, so that a block that takes
    them is found.
    """
    if not packet:
        raise ValueError("A packet has at least one byte")
    values = []
    for at in range(0, len(packet), beat_bytes):
        chunk = packet[at : at + beat_bytes]
        last = at + beat_bytes >= len(packet)
        values.append(
            {
                "data": int.from_bytes(chunk.ljust(beat_bytes, b"\xa5"), "little"),
                "last": last,
                "abort": last and abort,
                "count": len(chunk),
            }
        )
    return values


async def put(ctx, stream, payloads: Iterable, pause: Pause = never) -> None:
    """Offers each of ``payloads`` on ``stream``, with pauses between them."""
    for payload in payloads:
        while pause():
            await ctx.tick()
        ctx.set(stream.payload, payload)
        ctx.set(stream.valid, 1)
        taken = False
        while not taken:
            _, _, taken = await ctx.tick().sample(stream.ready)
        ctx.set(stream.valid, 0)


async def take(ctx, stream, pause: Pause = never):
    """Takes one payload from ``stream`` after a pause. Between calls ``ready`` is 0."""
    while pause():
        await ctx.tick()
    ctx.set(stream.ready, 1)
    valid = False
    while not valid:
        _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
    ctx.set(stream.ready, 0)
    return payload


async def put_packets(
    ctx,
    stream,
    packets: Iterable[bytes],
    pause: Pause = never,
    abort: Callable[[int], bool] = lambda at: False,
) -> None:
    """Sends ``packets``; the n-th is aborted at its end where ``abort(n)``."""
    beat_bytes = len(stream.payload.data) // 8
    for at, packet in enumerate(packets):
        await put(ctx, stream, beats(packet, beat_bytes, abort(at)), pause)


async def take_packet(ctx, stream, pause: Pause = never, *, trimmed: bool = False) -> bytes | None:
    """The next packet of ``stream``; None where it was aborted. ``trimmed``: what lies beyond its end must
    be zero.
    """
    beat_bytes = len(stream.payload.data) // 8
    packet = bytearray()
    while True:
        beat = await take(ctx, stream, pause)
        count = beat.count if beat.last else beat_bytes
        assert not trimmed or beat.data >> 8 * count == 0
        packet += beat.data.to_bytes(beat_bytes, "little")[:count]
        if beat.last:
            return None if beat.abort else bytes(packet)


def simulate(component, *testbenches, background: Iterable = (), clocks: int = 100_000) -> None:
    """Runs ``testbenches`` (``async def (ctx)``) until all have ended, and ``background`` ones beside them.

    Raises
    ------
    AssertionError
        Also where ``component`` breaks the rules of a stream (:func:`tests.formal.streams.keeps_rules`).
    TimeoutError
        They have not ended after ``clocks`` clocks.
    """
    simulator = Simulator(Watched(component) if isinstance(component, wiring.Component) else component)
    simulator.add_clock(PERIOD)
    done = []

    def counted(testbench):
        async def run(ctx):
            await testbench(ctx)
            done.append(testbench)

        return run

    for testbench in testbenches:
        simulator.add_testbench(counted(testbench))
    for testbench in background:
        simulator.add_testbench(testbench, background=True)
    for chunk in range(0, clocks, 1000):
        simulator.run_until((chunk + 1000) * PERIOD)
        if len(done) == len(testbenches):
            return
    raise TimeoutError(
        f"{len(testbenches) - len(done)} of {len(testbenches)} testbenches still run after {clocks} clocks"
    )


def passes_on(dut, pauses: str, items) -> None:
    """Items that go in at ``dut.i`` come out at ``dut.o`` as they are and in their order, with the pauses
    of that name.
    """
    source_pause, sink_pause = PAUSES[pauses]()

    async def feed(ctx):
        await put(ctx, dut.i, items, source_pause)

    async def read(ctx):
        assert [await take(ctx, dut.o, sink_pause) for _ in items] == list(items)

    simulate(dut, feed, read)
