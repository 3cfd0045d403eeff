# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest

from spigate.hdl.dfe.replay import LATENCY, Replay
from tests.hdl.streams import simulate

TOP = 2**32 - 1


class Bitmap:
    """RFC 4303 3.4.3 in the plainest way: the set of all numbers received."""

    def __init__(self, width, size=None):
        self.size = size or width
        self.width, self.highest, self.received = width, 0, set()

    def take(self, sequence):
        if sequence == 0 or sequence in self.received or sequence + self.size <= self.highest:
            return False
        self.received.add(sequence)
        self.highest = max(self.highest, sequence)
        return True

    @property
    def window(self):
        return sum(
            (self.highest - i in self.received) << i for i in range(self.width) if self.highest - i > 0
        )


async def ask(ctx, replay, sequence, highest, window, size):
    ctx.set(replay.sequence, sequence)
    ctx.set(replay.highest, highest)
    ctx.set(replay.window, window)
    ctx.set(replay.size, size)
    await ctx.tick().repeat(LATENCY)
    return ctx.get(replay.fresh), ctx.get(replay.next_highest), ctx.get(replay.next_window)


def run(sequences, expected=None, width=64, size=None):
    """Sends ``sequences`` one after another through one window, against the bitmap and against ``expected``
    by hand.
    """
    replay, bitmap = Replay(width=width), Bitmap(width, size)
    verdicts = []

    async def testbench(ctx):
        highest = window = 0
        for sequence in sequences:
            fresh, next_highest, next_window = await ask(
                ctx, replay, sequence, highest, window, size or width
            )
            assert fresh == bitmap.take(sequence), f"sequence {sequence}, edge {highest}, window {window:#x}"
            verdicts.append(fresh)
            if fresh:
                highest, window = next_highest, next_window
                assert (highest, window) == (bitmap.highest, bitmap.window), f"after {sequence}"

    simulate(replay, testbench, clocks=1_000_000)
    if expected is not None:
        assert verdicts == expected


@pytest.mark.parametrize(
    "sequences, expected",
    [
        ([0, 1, 1, 0], [0, 1, 0, 0]),
        ([1, 2, 3, 2, 1, 4], [1, 1, 1, 0, 0, 1]),
        ([3, 2, 1, 1, 2, 3], [1, 1, 1, 0, 0, 0]),
        # The left edge: highest - 63 is inside, highest - 64 is not.
        ([64, 1, 1], [1, 1, 0]),
        ([65, 1, 2, 2], [1, 0, 1, 0]),
        ([100, 37, 36, 37], [1, 1, 0, 0]),
        # Jumps of 63, 64 and 65: of the old packets one is still in the window, then none.
        ([1, 64, 1], [1, 1, 0]),
        ([1, 65, 1, 2], [1, 1, 0, 1]),
        ([10, 75, 10, 11, 12, 12], [1, 1, 0, 0, 1, 0]),
        # Far jumps, also by multiples of 64, where a shift that takes only the low bits would keep old marks.
        ([1, 129, 128, 129, 66, 65], [1, 1, 1, 0, 1, 0]),
        ([5, 5 + 2**16, 5 + 2**16 - 1, 5 + 2**31, 5 + 2**31 - 63, 5 + 2**31 - 64], [1, 1, 1, 1, 1, 0]),
        # To the last number there is: without ESN nothing comes behind it, and 1 is far left.
        ([TOP - 1, TOP, TOP, TOP - 63, TOP - 64, 0, 1, 2], [1, 1, 0, 1, 0, 0, 0, 0]),
        ([1, TOP, 1, TOP - 1], [1, 1, 0, 1]),
        ([2**31, 2**31 - 1, 2**31 + 1, 2**31], [1, 1, 1, 0]),
    ],
)
def test_by_hand(sequences, expected):
    run(sequences, expected)


@pytest.mark.parametrize("width", [32, 64, 128])
def test_every_distance_around_the_window(width):
    for jump in [*range(1, 4), *range(width - 3, width + 4), 2 * width, 2**20 - 1]:
        base = 1000
        run(
            [base, base - 1, base - 5, base + jump, *range(base + jump - width - 2, base + jump + 2)],
            width=width,
        )


@pytest.mark.parametrize("size", [1, 2, 31, 32, 33, 63, 64])
def test_smaller_windows(size):
    run(
        [
            500,
            500 - size + 1,
            500 - size,
            501,
            501 - size,
            502 - size,
            503 - size,
            600,
            *range(600 - size - 2, 602),
        ],
        size=size,
    )


@pytest.mark.parametrize("start", [1, 5000, TOP - 3000])
def test_random_walk(start):
    source = random.Random(start)
    at, sequences = start, []
    for _ in range(1000):
        at = min(at + source.choice([0, 1, 1, 1, 2, 3, 10, 62, 63, 64, 65, 100]), TOP)
        sequences.append(max(0, at - source.choice([0, 0, 0, 1, 2, 5, 30, 62, 63, 64, 65, 200])))
    run(sequences)


def test_answers_every_clock():
    replay = Replay()
    source = random.Random(1)
    questions = [(source.randrange(900, 1100), 1000, source.getrandbits(64) | 1) for _ in range(200)]
    answers = []

    async def testbench(ctx):
        ctx.set(replay.size, 64)
        for at in range(len(questions) + LATENCY):
            sequence, highest, window = questions[min(at, len(questions) - 1)]
            ctx.set(replay.sequence, sequence)
            ctx.set(replay.highest, highest)
            ctx.set(replay.window, window)
            if at >= LATENCY:
                answers.append(
                    (ctx.get(replay.fresh), ctx.get(replay.next_highest), ctx.get(replay.next_window))
                )
            await ctx.tick()

    simulate(replay, testbench)
    for (sequence, highest, window), (fresh, next_highest, next_window) in zip(
        questions, answers, strict=True
    ):
        bitmap = Bitmap(64)
        bitmap.highest, bitmap.received = highest, {highest - i for i in range(64) if window >> i & 1}
        assert fresh == bitmap.take(sequence)
        if fresh:
            assert (next_highest, next_window) == (bitmap.highest, bitmap.window)


@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
def test_refuses_other_widths():
    with pytest.raises(ValueError, match="width must be 32, 64 or 128, not 4096"):
        Replay(width=4096)
