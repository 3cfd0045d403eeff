# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest

from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Table
from spigate.hdl.dfe.state import State
from tests.hdl.dfe.test_replay import Bitmap
from tests.hdl.streams import PAUSES, never, put, simulate, take

NEVER = 2**64 - 1
BYTE_LIFETIME, PACKET_LIFETIME, REPLAY = (
    rdl.entry("sa")[name].index for name in ("byte_lifetime", "packet_lifetime", "replay")
)


def limits(soft=NEVER, hard=NEVER):
    return soft | hard << 64


def burst(sa, rows, table=Table.SA):
    """``rows``, by index, of one entry as table writes."""
    return [
        {
            "table": table,
            "dfe": 0,
            "index": sa,
            "row": row,
            "data": value,
            "first": at == 0,
            "last": at == len(rows) - 1,
        }
        for at, (row, value) in enumerate(rows.items())
    ]


def entry(sa, packets=limits(), octets=limits(), sequence=0, window=0):
    return burst(sa, {BYTE_LIFETIME: octets, PACKET_LIFETIME: packets, REPLAY: sequence | window << 64})


def account(sa, sequence, octets=100, check=1, authentic=1, count=1, window_size=64):
    return {
        "sa": sa,
        "sequence": sequence,
        "check": check,
        "window_size": window_size,
        "authentic": authentic,
        "count": count,
        "bytes": octets,
    }


def run(*steps, pauses=(never, never)):
    """Works through ``steps``: lists of table writes, or (account, expected outcome), or (sa, expected
    state), where two more numbers are which SAs around it have reached limits, soft and hard."""
    state = State(sa_entries=64)
    source_pause, sink_pause = pauses

    async def testbench(ctx):
        for step in steps:
            if isinstance(step, list):
                await put(ctx, state.tables, step, source_pause)
            elif isinstance(step[0], dict):
                await put(ctx, state.account, [step[0]], source_pause)
                outcome = await take(ctx, state.outcome, sink_pause)
                assert (outcome.replayed, outcome.expired, outcome.soft) == step[1], step[0]
            else:
                await put(ctx, state.request, [step[0]], source_pause)
                told = await take(ctx, state.state, sink_pause)
                assert (told.sequence, told.window, told.bytes, told.packets) == step[1]
                assert (told.soft, told.hard) == step[2:] or not step[2:]

    simulate(state, testbench)


GOOD, REPLAYED, EXPIRED, SOFT = (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)


def test_window_moves_only_for_authentic_packets_and_replays_do_not_count():
    run(
        entry(3),
        (account(3, 5, authentic=0, count=0), GOOD),
        (3, (0, 0, 0, 0)),
        (account(3, 5), GOOD),
        (3, (5, 1, 100, 1)),
        (account(3, 5), REPLAYED),
        (3, (5, 1, 100, 1)),
        (account(3, 0), REPLAYED),
        (account(3, 2**32 - 1, authentic=0, count=0), GOOD),
        (3, (5, 1, 100, 1)),
        (account(3, 7, count=0), GOOD),
        (3, (7, 5, 100, 1)),
    )


def test_without_anti_replay_numbers_do_not_matter():
    run(
        entry(3),
        (account(3, 0, check=0), GOOD),
        (account(3, 9, check=0), GOOD),
        (account(3, 9, check=0), GOOD),
        (3, (0, 0, 300, 3)),
    )


def test_window_size_of_the_sa():
    run(
        entry(3),
        (account(3, 100, window_size=32), GOOD),
        (account(3, 69, window_size=32), GOOD),
        (account(3, 68, window_size=32), REPLAYED),
        (account(3, 68), GOOD),
    )


def test_packet_lifetime():
    run(
        entry(1, packets=limits(2, 3)),
        (account(1, 1), GOOD),
        (account(1, 2), SOFT),
        (account(1, 3), GOOD),
        (account(1, 4), EXPIRED),
        (account(1, 5), EXPIRED),
        (1, (5, 31, 300, 3)),
    )


def test_byte_lifetime():
    # A packet that fits exactly is the last one; a longer one is not counted, so that a shorter one may
    # still pass.
    run(
        entry(1, octets=limits(150, 250)),
        (account(1, 1), GOOD),
        (account(1, 2), SOFT),
        (account(1, 3, 51), EXPIRED),
        (account(1, 4, 50), GOOD),
        (account(1, 5, 1), EXPIRED),
        (1, (5, 31, 250, 3)),
    )


def test_what_was_reached_stays_marked():
    """Until the SA is written anew, whatever else happens (audit row 12)."""
    run(
        entry(1, packets=limits(1, 2)),
        entry(3, octets=limits(100, 150)),
        entry(33),
        (1, (0, 0, 0, 0), 0, 0),
        (account(1, 1, authentic=0, count=0), GOOD),
        (1, (0, 0, 0, 0), 0, 0),
        (account(1, 1), SOFT),
        (1, (1, 1, 100, 1), 0b10, 0),
        (account(3, 1), SOFT),
        (account(3, 2), EXPIRED),
        (1, (1, 1, 100, 1), 0b1010, 0b1000),
        *[(account(33, number), GOOD) for number in range(1, 9)],
        (33, (8, 0xFF, 800, 8), 0, 0),
        burst(3, {0: 0}),
        (3, (2, 3, 100, 1), 0b1010, 0b1000),
        burst(3, {REPLAY: 0}),
        (3, (0, 0, 0, 0), 0b10, 0),
        (account(1, 2), GOOD),
        (account(1, 3), EXPIRED),
        (1, (3, 7, 200, 2), 0b10, 0b10),
        (33, (8, 0xFF, 800, 8), 0, 0),
    )
    # Numbers that are nearly used up, in and out; the last one.
    run(
        entry(1),
        entry(2),
        (account(1, 2**32 - 2**28 - 1), GOOD),
        (1, (2**32 - 2**28 - 1, 1, 100, 1), 0, 0),
        (account(2, 2**32 - 2**28, check=0), GOOD),
        (account(1, 2**32 - 2**28), GOOD),
        (2, (0, 0, 100, 1), 0b110, 0),
        (account(2, 2**32 - 1, check=0), GOOD),
        (2, (0, 0, 200, 2), 0b110, 0b100),
    )


def test_an_outbound_packet_counts_and_leaves_the_window():
    run(
        entry(1, packets=limits(NEVER, 1), sequence=7),
        (account(1, 8, check=0), GOOD),
        (account(1, 9, check=0), EXPIRED),
        (1, (7, 0, 100, 1)),
    )


def test_rows():
    run(
        entry(2, sequence=2**40 + 10, window=0b101),
        (2, (2**40 + 10, 0b101, 0, 0)),
        (account(2, 9), GOOD),
        (account(2, 10), REPLAYED),
        (account(2, 8), REPLAYED),
        (account(2, 11), GOOD),
        (2, (2**40 + 11, 0b1111, 200, 2)),
        # Limits alone leave counters and window.
        burst(2, {PACKET_LIFETIME: limits(3, 3)}),
        (2, (2**40 + 11, 0b1111, 200, 2)),
        (account(2, 12), SOFT),
        (account(2, 13), EXPIRED),
        # Static rows, other tables and indices beyond the table change nothing.
        burst(2, {0: NEVER, 9: NEVER}),
        burst(2, {REPLAY: 0}, Table.CAM),
        burst(66, {REPLAY: 0}),
        (2, (2**40 + 13, 0b111111, 300, 3)),
        (66, (0, 0, 0, 0)),
        # The replay row begins anew.
        burst(2, {REPLAY: 0}),
        (2, (0, 0, 0, 0)),
        (account(2, 1), GOOD),
    )


@pytest.mark.parametrize("pauses", PAUSES)
def test_packets_of_one_sa_that_follow_one_another_see_each_other(pauses):
    source_pause, sink_pause = PAUSES[pauses]()
    state = State(sa_entries=16)
    source = random.Random(5)
    windows = {sa: Bitmap(64) for sa in range(3)}
    counts = dict.fromkeys(windows, 0)
    accounts, expected = [], []
    for _ in range(400):
        sa = source.choice([0, 0, 0, 1, 2])
        sequence = max(0, windows[sa].highest + source.choice([0, 1, 1, 2, 3, -1, -2, -63, -64, 64, 65]))
        fresh = windows[sa].take(sequence)
        counts[sa] += fresh
        accounts.append(account(sa, sequence))
        expected.append((not fresh, 0, fresh and counts[sa] == 20))

    async def feed(ctx):
        for sa in windows:
            await put(ctx, state.tables, entry(sa, packets=limits(20)))
        await put(ctx, state.account, accounts, source_pause)

    async def check(ctx):
        for at, (want, given) in enumerate(zip(expected, accounts, strict=True)):
            outcome = await take(ctx, state.outcome, sink_pause)
            assert (outcome.replayed, outcome.expired, outcome.soft) == want, (at, given)
        for sa, bitmap in windows.items():
            await put(ctx, state.request, [sa])
            told = await take(ctx, state.state)
            assert (told.sequence, told.window, told.bytes, told.packets) == (
                bitmap.highest,
                bitmap.window,
                100 * counts[sa],
                counts[sa],
            )

    simulate(state, feed, check)


def test_nothing_is_accounted_in_the_middle_of_a_burst():
    state = State(sa_entries=16)
    first, second, third = entry(1, packets=limits(NEVER, 0))

    async def testbench(ctx):
        await put(ctx, state.tables, [first])
        ctx.set(state.account.payload, account(1, 1))
        ctx.set(state.account.valid, 1)
        for _ in range(30):
            await ctx.tick()
            assert not ctx.get(state.account.ready)
        await put(ctx, state.tables, [second, third])
        outcome = await take(ctx, state.outcome)
        assert outcome.expired

    simulate(state, testbench)


def test_clocks_a_packet():
    state = State(sa_entries=16)
    clocks = []

    async def testbench(ctx):
        await put(ctx, state.tables, entry(1))
        ctx.set(state.account.payload, account(1, 1, check=0))
        ctx.set(state.account.valid, 1)
        ctx.set(state.outcome.ready, 1)
        for clock in range(200):
            if ctx.get(state.outcome.valid):
                clocks.append(clock)
            await ctx.tick()

    simulate(state, testbench)
    assert {later - earlier for earlier, later in zip(clocks, clocks[1:], strict=False)} == {12}
