# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest
from amaranth.hdl import ResetInserter, Signal

from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Reason, Table
from spigate.hdl.csr.control import VERSION, ControlPlane
from spigate.hdl.net.descriptor import ALL_DFES, CFE_COUNTERS, DFE_COUNTERS, FORWARD_COUNTERS, CfeControl
from tests.hdl import streams
from tests.hdl.csr.manager import REGISTERS, address, errors, fields, get, put, read, write
from tests.hdl.streams import never, simulate, sometimes

SIZES = {"sa_entries": 256, "sources": 16, "cam_entries": 1024, "rules": 32, "routes": 64}


def plane(**changes):
    return ControlPlane(**{"dfes": 2, "reporters": 2, "beat_bytes": 16, "lanes": 3, **SIZES, **changes})


async def table_writes(ctx, control, into, pause=never):
    while True:
        payload = await streams.take(ctx, control.tables, pause)
        into.append(
            {
                name: getattr(payload, name)
                for name in ("table", "dfe", "index", "row", "data", "first", "last")
            }
        )


def run(control, test, *background, clocks=40_000):
    simulate(control, test, background=background, clocks=clocks)


async def stage(ctx, axil, words, first=0):
    for at, word in enumerate(words):
        await put(ctx, axil, "table.data", word, index=first + at)


def test_says_what_the_gateware_has():
    control = plane(algorithms=("cipher_aes_gcm", "key_aes128"))

    async def check(ctx):
        assert await get(ctx, control.axil, "id") == int.from_bytes(b"SPIG", "big")
        assert await fields(ctx, control.axil, "geometry") == {
            "beat_bytes": 16,
            "dfes": 2,
            "lanes": 3,
            "contexts": 2,
        }
        assert await fields(ctx, control.axil, "dfe_tables") == {"sa_entries": 256, "sources": 16}
        assert await fields(ctx, control.axil, "cam") == {"cam_entries": 1024, "cam_ways": 3, "row_bits": 9}
        assert await fields(ctx, control.axil, "cfe_tables") == {"rules": 32, "routes": 64}
        assert await fields(ctx, control.axil, "clock") == {"khz": 100_000}
        features = await fields(ctx, control.axil, "features")
        assert (features["esn"], features["ipv6"], features["replay_window"]) == (0, 0, 64)
        algorithms = await fields(ctx, control.axil, "algorithms")
        assert {name for name, has in algorithms.items() if has} == {"cipher_aes_gcm", "key_aes128"}
        before = await get(ctx, control.axil, "time")
        assert await get(ctx, control.axil, "time") > before
        assert (await get(ctx, control.axil, "version")) >> 24 == VERSION["map"]

    run(control, check)


def test_settings_have_sensible_resets_and_reach_the_cfe():
    control = plane()
    resets = {"enable": 0, "patience": 65535, "depth_limit": 3, "rule_miss": 3, "balance": 0, "miss_drop": 0}

    async def check(ctx):
        for name, value in resets.items():
            assert await get(ctx, control.axil, f"cfe.{name}") == value, name
            assert ctx.get(control.cfe[name]) == value
        for name in set(CfeControl().members) - {"punts"}:
            field = REGISTERS[f"cfe.{name}"].fields["value"]
            value = random.Random(name).getrandbits(field.width)
            await put(ctx, control.axil, f"cfe.{name}", value | 1 << 31)
            assert await get(ctx, control.axil, f"cfe.{name}") == (value | 1 << 31) & (1 << field.width) - 1
        for at, name in enumerate(("ike", "link", "exception", "spi", "rest")):
            at_reset = await fields(ctx, control.axil, f"cfe.punt_{name}")
            assert at_reset["period"] and at_reset["burst"], "no class is without a limit"
            await put(ctx, control.axil, f"cfe.punt_{name}", period=1000 + at, burst=at)
            assert (ctx.get(control.cfe.punts[at].period), ctx.get(control.cfe.punts[at].burst)) == (
                1000 + at,
                at,
            )
        await put(ctx, control.axil, "cfe.weights", 0x8765_4321)
        assert [ctx.get(control.cfe.weights[n]) for n in range(8)] == list(range(1, 9))
        assert ctx.get(control.cfe.miss_interval) == await get(ctx, control.axil, "cfe.miss_interval")

    run(control, check)


def test_counters_are_read_where_the_map_says():
    control = plane()

    async def check(ctx):
        groups = [
            ("cfe_count", CFE_COUNTERS, control.cfe_counters, None),
            ("forward_count", FORWARD_COUNTERS, control.forward_counters, None),
        ]
        groups += [("dfe_count", DFE_COUNTERS, control.dfe_counters[n], n) for n in range(2)]
        expected = {}
        for prefix, layout, port, index in groups:
            for name in layout.members:
                value = random.Random(f"{prefix}{name}{index}").getrandbits(32)
                ctx.set(port[name], value)
                expected[f"{prefix}.{name}", index] = value
        ctx.set(control.healthy, 0x83)
        for (name, index), value in expected.items():
            assert await get(ctx, control.axil, name, index) == value, (name, index)
        assert await get(ctx, control.axil, "healthy") == 0x83
        # A DFE that this gateware does not have.
        assert await read(ctx, control.axil, address("dfe_count.punts", 2)) == (0, 2)
        assert await errors(ctx, control.axil) == {"address"}

    run(control, check)


def test_an_address_that_is_not_there_answers_with_an_error_and_changes_nothing():
    control = plane()

    async def check(ctx):
        taken = {
            register.at(n) if register.count else register.address
            for register in REGISTERS.values()
            for n in range(register.count or 1)
        }
        rng = random.Random(5)
        holes = [at for at in range(0, 0x1000, 4) if at not in taken]
        for at in rng.sample(holes, 40) + [0x8D8, 0xA18, 0xAF8, 0x1000, 0x4000, 0xFFFC]:
            assert await read(ctx, control.axil, at) == (0, 2), hex(at)
            assert await errors(ctx, control.axil) == {"address"}
            assert await write(ctx, control.axil, at, 0xFFFF_FFFF) == 2, hex(at)
            assert await errors(ctx, control.axil) == {"address"}
        # Nothing to write in what is only read.
        for name in ("id", "healthy", "cfe_count.hits", "event_pending"):
            assert await write(ctx, control.axil, address(name), 0xFFFF_FFFF) == 2
        assert await write(ctx, control.axil, address("drops", 3), 0xFFFF_FFFF) == 2
        assert await errors(ctx, control.axil) == {"address"}
        assert await errors(ctx, control.axil) == set()
        assert ctx.get(control.cfe.enable) == 0 and ctx.get(control.cfe.patience) == 65535

    run(control, check)


def test_writes_whole_words_only():
    control = plane()

    async def check(ctx):
        at = address("cfe.patience")
        assert await write(ctx, control.axil, at, 0x1111, strobe=0b0011) == 2
        assert await errors(ctx, control.axil) == {"strobe"}
        assert await write(ctx, control.axil, at, 0x1111, strobe=0) == 0
        assert await get(ctx, control.axil, "cfe.patience") == 65535
        assert await errors(ctx, control.axil) == set()

    run(control, check)


@pytest.mark.parametrize("pause", [never, sometimes(1, 0.8)], ids=["steady", "pauses"])
def test_writes_an_sa_as_one_burst(pause):
    control, writes = plane(), []
    words = [random.Random(1).getrandbits(32) for _ in range(52)]

    async def check(ctx):
        await stage(ctx, control.axil, words)
        await put(ctx, control.axil, "table.index", 0x00A5)
        await put(ctx, control.axil, "table.command", table=Table.SA, dfe=1, first=0, count=13)
        # Writes wait, so that the next entry needs no question between.
        await stage(ctx, control.axil, words[:12], first=40)
        await put(ctx, control.axil, "table.index", 0x00A6)
        await put(ctx, control.axil, "table.command", table=Table.SA, dfe=0, first=10, count=3)
        await put(ctx, control.axil, "table.index", 0)
        rows = [
            sum(word << 32 * at for at, word in enumerate(words[4 * row : 4 * row + 4])) for row in range(13)
        ]
        assert writes == [
            {
                "table": Table.SA,
                "dfe": 1,
                "index": 0xA5,
                "row": row,
                "data": rows[row],
                "first": row == 0,
                "last": row == 12,
            }
            for row in range(13)
        ] + [
            {
                "table": Table.SA,
                "dfe": 0,
                "index": 0xA6,
                "row": 10 + row,
                "data": rows[row],
                "first": row == 0,
                "last": row == 2,
            }
            for row in range(3)
        ]
        assert await errors(ctx, control.axil) == set()

    async def tables(ctx):
        await table_writes(ctx, control, writes, pause)

    run(control, check, tables)


def test_an_sa_is_a_burst_of_56_words_or_fewer_that_ends_with_the_command():
    first, index, command = address("table.data", 0), address("table.index"), address("table.command")
    assert index == address("table.data", 51) + 4 and command == index + 4
    assert (command - first) // 4 + 1 == 54
    assert len(rdl.entry("sa")) * rdl.ROW_WORDS == REGISTERS["table.data"].count


def test_keys_do_not_stay_in_staging_and_cannot_be_read():
    control, writes = plane(), []

    async def check(ctx):
        await stage(ctx, control.axil, [0xDEAD_BEEF] * 52)
        for at in (0, 20, 51):
            assert await get(ctx, control.axil, "table.data", at) == 0
        # Refused or accepted: the next command finds zeros.
        await put(ctx, control.axil, "table.command", table=7)
        for _ in range(2):
            await put(ctx, control.axil, "table.command", table=Table.SA, count=13)
        await stage(ctx, control.axil, [0xDEAD_BEEF] * 8)
        await put(ctx, control.axil, "table.command", table=Table.SA, count=2)
        await put(ctx, control.axil, "table.command", table=Table.SA, count=13)
        await put(ctx, control.axil, "table.index", 0)
        assert len(writes) == 13 + 13 + 2 + 13
        assert [write["data"] != 0 for write in writes] == 26 * [False] + 2 * [True] + 13 * [False]
        assert ctx.get(control.tables.payload.data) == 0

    async def tables(ctx):
        await table_writes(ctx, control, writes)

    run(control, check, tables)


def test_erase_writes_zeros_to_all_rows():
    control, writes = plane(), []
    rows = {Table.CAM: 2, Table.RULE: 2, Table.ROUTE: 1, Table.SA: 13, Table.SOURCE: 1}

    async def check(ctx):
        for table, count in rows.items():
            await stage(ctx, control.axil, [0xFFFF_FFFF] * 8)
            await put(ctx, control.axil, "table.index", 3)
            await put(ctx, control.axil, "table.command", table=table, erase=1, first=9, count=0, dfe=1)
            await put(ctx, control.axil, "table.index", 0)
            assert [(write["table"], write["index"], write["row"], write["data"]) for write in writes] == [
                (table, 3, row, 0) for row in range(count)
            ]
            assert [write["first"] for write in writes] == [1] + [0] * (count - 1)
            assert [write["last"] for write in writes] == [0] * (count - 1) + [1]
            writes.clear()
        assert await errors(ctx, control.axil) == set()

    async def tables(ctx):
        await table_writes(ctx, control, writes)

    run(control, check, tables)


REFUSED = {
    "unknown table": (dict(table=5, count=1), 0, {"table"}),
    "CAM slot": (dict(table=Table.CAM, count=2), 1536, {"index"}),
    "rule": (dict(table=Table.RULE, count=2), 32, {"index"}),
    "route": (dict(table=Table.ROUTE, count=1), 64, {"index"}),
    "SA": (dict(table=Table.SA, count=13), 256, {"index"}),
    "erased SA": (dict(table=Table.SA, erase=1), 256, {"index"}),
    "source": (dict(table=Table.SOURCE, count=1), 16, {"index"}),
    "DFE": (dict(table=Table.SA, count=13, dfe=2), 0, {"dfe"}),
    "DFE of a source": (dict(table=Table.SOURCE, count=1, dfe=15), 0, {"dfe"}),
    "no rows": (dict(table=Table.SA, count=0), 0, {"rows"}),
    "rows beyond": (dict(table=Table.SA, first=10, count=4), 0, {"rows"}),
    "rows far beyond": (dict(table=Table.SA, first=15, count=15), 0, {"rows"}),
    "part of a rule": (dict(table=Table.RULE, count=1), 0, {"rows"}),
    "second row of a CAM entry": (dict(table=Table.CAM, first=1, count=1), 0, {"rows"}),
    "two causes": (dict(table=Table.SA, count=13, dfe=9), 999, {"dfe", "index"}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_a_command_by_name_and_leaves_tables_alone(case):
    command, index, named = REFUSED[case]
    control, writes = plane(), []

    async def check(ctx):
        await put(ctx, control.axil, "table.index", index)
        await put(ctx, control.axil, "table.command", **command)
        await put(ctx, control.axil, "table.index", index)
        assert await get(ctx, control.axil, "table_status") == 0
        assert await errors(ctx, control.axil) == named
        assert await errors(ctx, control.axil) == set()
        assert writes == []

    async def tables(ctx):
        await table_writes(ctx, control, writes)

    run(control, check, tables)


@pytest.mark.parametrize(
    "table, last",
    [(Table.CAM, 1535), (Table.RULE, 31), (Table.ROUTE, 63), (Table.SA, 255), (Table.SOURCE, 15)],
)
def test_takes_the_last_index_of_each_table(table, last):
    control, writes = plane(), []

    async def check(ctx):
        await put(ctx, control.axil, "table.index", last)
        await put(ctx, control.axil, "table.command", table=table, erase=1)
        await put(ctx, control.axil, "table.index", 0)
        assert writes and await errors(ctx, control.axil) == set()

    async def tables(ctx):
        await table_writes(ctx, control, writes)

    run(control, check, tables)


def test_a_reset_erases_what_was_written():
    """Every row of every entry, in all DFEs, keys first; until then the gateway is closed (audit row 8)."""
    control, again, writes = plane(sa_entries=4, sources=3, cam_entries=64, rules=4, routes=2), Signal(), []

    async def reset(ctx):
        ctx.set(again, 1)
        await ctx.tick()
        ctx.set(again, 0)
        writes.clear()
        clocks = 0
        while ctx.get(control.closed) or (await fields(ctx, control.axil, "table_status"))["busy"]:
            await ctx.tick()
            clocks += 1
        return clocks

    async def check(ctx):
        assert await reset(ctx) < 100 and not writes  # There is nothing to be erased.
        await put(ctx, control.axil, "table.index", 1)
        await put(ctx, control.axil, "table.command", table=Table.ROUTE, count=1)
        for _ in range(3):
            await reset(ctx)
            sizes = {
                Table.SA: (4, 13),
                Table.SOURCE: (3, 1),
                Table.CAM: (96, 2),
                Table.RULE: (4, 2),
                Table.ROUTE: (2, 1),
            }
            assert set(sizes) == set(Table)
            assert [(write["table"], write["index"], write["row"]) for write in writes] == [
                (table, index, row)
                for table, (entries, rows) in sizes.items()
                for index in range(entries)
                for row in range(rows)
            ]
            assert {(write["dfe"], write["data"]) for write in writes} == {(ALL_DFES, 0)}
            assert all(write["first"] == (write["row"] == 0) for write in writes)
            assert await errors(ctx, control.axil) == set()
        await put(ctx, control.axil, "table.index", 1)
        assert await get(ctx, control.axil, "table_status") == 0

    async def tables(ctx):
        await table_writes(ctx, control, writes)

    simulate(ResetInserter(again)(control), check, background=[tables])


def test_says_that_something_of_an_sa_is_still_there():
    control = plane()

    async def check(ctx):
        ctx.set(control.wiping, 1)
        await ctx.tick().repeat(40)
        assert await fields(ctx, control.axil, "table_status") == {"busy": 0, "wiping": 1}

    run(control, check)


def test_a_table_that_never_answers_does_not_hang_the_bus():
    control = plane()

    async def check(ctx):
        await put(ctx, control.axil, "table.command", table=Table.ROUTE, count=1)
        assert await get(ctx, control.axil, "table_status") == 1
        assert await write(ctx, control.axil, address("table.index"), 1) == 2
        assert await errors(ctx, control.axil) == {"busy"}
        assert await get(ctx, control.axil, "cfe.patience") == 65535
        # When the table takes the row at last, all goes on.
        await streams.take(ctx, control.tables)
        await put(ctx, control.axil, "table.index", 1)
        assert await get(ctx, control.axil, "table_status") == 0

    run(control, check)


def test_reads_the_state_of_an_sa():
    control, _requests = plane(), []
    state = {"sequence": 0x0102_0304_0506_0708, "window": (1 << 63) + 5, "bytes": 1 << 40, "packets": 77}

    async def check(ctx):
        await put(ctx, control.axil, "state.select", sa=0x12, dfe=1)
        assert await fields(ctx, control.axil, "state.status") == {"busy": 1, "refused": 0}
        await put(ctx, control.axil, "state.select", sa=0x13, dfe=0)
        assert await errors(ctx, control.axil) == {"request"}
        request = await streams.take(ctx, control.state_request)
        assert (request.dfe, request.sa) == (1, 0x12)
        await streams.put(ctx, control.state, [state | {"soft": 0x8000_0001, "hard": 1}])
        assert (await fields(ctx, control.axil, "state.status"))["busy"] == 0
        for name, value in state.items():
            assert await get(ctx, control.axil, f"state.{name}_low") == value & 0xFFFF_FFFF
            assert await get(ctx, control.axil, f"state.{name}_high") == value >> 32
        assert [await get(ctx, control.axil, f"state.{name}") for name in ("soft", "hard")] == [
            0x8000_0001,
            1,
        ]
        for sa, dfe, named in [(256, 0, {"sa"}), (0, 2, {"dfe"}), (0xFFFF, 15, {"sa", "dfe"})]:
            await put(ctx, control.axil, "state.select", sa=sa, dfe=dfe)
            assert await fields(ctx, control.axil, "state.status") == {"busy": 0, "refused": 1}
            assert await errors(ctx, control.axil) == named
            assert not ctx.get(control.state_request.valid)
        await put(ctx, control.axil, "state.select", sa=255, dfe=0)
        assert await fields(ctx, control.axil, "state.status") == {"busy": 1, "refused": 0}

    run(control, check)


def test_counts_drops_and_shows_events():
    control = plane()
    reports = [
        {
            "reason": Reason.ICV,
            "dropped": 1,
            "ingress": 0,
            "dfe": 1,
            "sa": 7,
            "spi": 0x1234,
            "sequence": 99,
            "source": 0x0A000001,
            "destination": 0xC0000201,
        },
        {"reason": Reason.QUEUE_FULL, "dropped": 1, "dfe": 14},
        {"reason": Reason.SOFT_LIFETIME, "dfe": 0, "sa": 3},
    ]

    async def check(ctx):
        await streams.put(ctx, control.reports[1], reports)
        await ctx.tick().repeat(20)
        assert await get(ctx, control.axil, "event_pending") == 2
        assert await fields(ctx, control.axil, "event.what", 0) == {
            "reason": Reason.ICV,
            "dropped": 1,
            "valid": 1,
            "ingress": 0,
            "dfe": 1,
            "sa": 7,
        }
        words = [
            await get(ctx, control.axil, f"event.{name}", 0)
            for name in ("spi", "sequence", "source", "destination")
        ]
        assert words == [0x1234, 99, 0x0A000001, 0xC0000201]
        assert (
            0 < await get(ctx, control.axil, "event.time", 0) < await get(ctx, control.axil, "event.time", 1)
        )
        second = await fields(ctx, control.axil, "event.what", 1)
        assert (second["reason"], second["dropped"], second["sa"]) == (Reason.SOFT_LIFETIME, 0, 3)
        assert await get(ctx, control.axil, "event.what", 2) == 0
        assert [
            await get(ctx, control.axil, "drops", reason)
            for reason in (Reason.ICV, Reason.QUEUE_FULL, Reason.SOFT_LIFETIME)
        ] == [1, 1, 0]
        await put(ctx, control.axil, "event_pop", 1)
        assert (await fields(ctx, control.axil, "event.what", 0))["reason"] == Reason.SOFT_LIFETIME
        await put(ctx, control.axil, "event_pop", 2)
        assert await get(ctx, control.axil, "event_pending") == 0
        assert await errors(ctx, control.axil) == {"pop"}

    run(control, check)


@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(dfes=9), "dfes must be 1 to 8, not 9"),
        (dict(lanes=16), "geometry.lanes must be 0 to 15, not 16"),
        (dict(algorithms=("rot13",)), "algorithms must be of cipher_null, .*, not 'rot13'"),
    ],
)
def test_refuses_what_it_cannot_tell(changes, message):
    with pytest.raises(ValueError, match=message):
        plane(**changes)
