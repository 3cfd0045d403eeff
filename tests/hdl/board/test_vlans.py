# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random
from collections import Counter

import pytest
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Raw

from spigate.hdl.board.ethernet import LONGEST, QUEUE_BYTES
from spigate.hdl.board.tags import SIDES, PutTag, Split
from spigate.hdl.board.vlans import VlanRegisters, Vlans
from spigate.hdl.contract.vlans import DEFAULT_VLANS, SIDE_NAMES, check, registers
from spigate.hdl.net.packet import BEAT_BYTES
from tests.hdl.board.test_port_registers import access
from tests.hdl.streams import PAUSES, never, put_packets, simulate, take, take_packet

NETWORK, SERVER = DEFAULT_VLANS
SOURCES = ("02:00:00:00:00:01", "02:00:00:00:00:02")
"""Of frames of the network side and of the server side: so whoever sees a frame knows whose it is."""


def frame(side, payload, *tags) -> bytes:
    """With an EtherType for experiments (IEEE 802 9.2.3) behind ``tags``; scapy writes the types in front of
    tags.
    """
    made = Ether(src=SOURCES[side], dst="02:00:00:00:00:09")
    for each in tags:
        made /= each
    made[len(tags)].type = 0x88B5
    return bytes(made / Raw(payload))


def pair(side, length, source):
    """A frame of ``length`` bytes (14 or more) without its tag, and with it."""
    payload = source.randbytes(length - 14)
    priority, eligible = source.randrange(8), source.randrange(2)
    return frame(side, payload), frame(
        side, payload, Dot1Q(vlan=DEFAULT_VLANS[side], prio=priority, dei=eligible)
    )


def lengths(beat_bytes):
    return [*range(14, 14 + 3 * beat_bytes), 60, 64, LONGEST - 1, LONGEST]


def side_of(packet):
    """Whose it is by its source address."""
    return packet[11] - 1


def watch(dut, side, seen, pause):
    """Takes what comes out at a side. Whatever belongs to the other one is an error at once."""

    async def taking(ctx):
        while True:
            packet = await take_packet(ctx, dut.o[side], pause, trimmed=True)
            assert side_of(packet) == side, "a frame has crossed to the other side"
            seen.append(packet)

    return taking


async def counted(ctx, dut, expected):
    """Waits until the registers have counted as many frames as ``expected`` says, and compares them."""
    names = [name for name in registers() if name != "identifiers"]
    first = registers()["identifiers"].address
    for _ in range(200):
        found = {name: await access(ctx, dut.bus, (registers()[name].address - first) // 4) for name in names}
        if sum(found.values()) >= sum(expected.values()):
            break
    assert {name: count for name, count in found.items() if count} == {
        name: count for name, count in expected.items() if count
    }


async def settle(ctx, done, clocks=400):
    """Until ``done()``, and some more for what must not come."""
    while not done():
        await ctx.tick()
    await ctx.tick().repeat(clocks)


def strangers(source) -> list[bytes]:
    """Frames that are of neither side."""
    payload = source.randbytes(60)
    near = frame(0, payload, Dot1Q(vlan=NETWORK))
    return [
        frame(0, payload),
        frame(1, payload, Dot1Q(vlan=0, prio=5)),
        frame(0, payload, Dot1Q(vlan=1)),
        frame(1, payload, Dot1Q(vlan=4095)),
        frame(0, payload, Dot1Q(vlan=NETWORK | 0x800)),
        frame(0, payload, Dot1Q(vlan=99), Dot1Q(vlan=NETWORK)),
        frame(1, payload, Dot1AD(vlan=SERVER)),
        frame(1, payload, Dot1AD(vlan=9), Dot1Q(vlan=SERVER)),
        *(near[:end] for end in (1, 7, 8, 9, 12, 13, 14, 15, 16)),
    ]


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_each_length_goes_to_its_side_without_its_tag(beat_bytes, pauses):
    source = random.Random(beat_bytes)
    every = [(side, pair(side, length, source)) for length in lengths(beat_bytes) for side in range(SIDES)]
    source.shuffle(every)
    source_pause, sink_pause = PAUSES[pauses]()
    dut = Vlans(beat_bytes=beat_bytes)
    sent, seen = ([], []), ([], [])

    async def feed(ctx):
        # So slowly that both queues always have room.
        for side, (_, tagged) in every:
            await put_packets(ctx, dut.received, [tagged], source_pause)
            sent[side].append(tagged)
            while len(seen[side]) + 2 < len(sent[side]):
                await ctx.tick()

    async def check(ctx):
        await settle(ctx, lambda: len(seen[0]) + len(seen[1]) == len(every))
        for side in range(SIDES):
            assert seen[side] == [plain for whose, (plain, _) in every if whose == side]
        await counted(ctx, dut, {f"rx_{name}": len(seen[at]) for at, name in enumerate(SIDE_NAMES)})

    simulate(dut, feed, check, background=[watch(dut, side, seen[side], sink_pause) for side in range(SIDES)])


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", ["none", "source"])
def test_all_else_is_dropped_and_counted(beat_bytes, pauses):
    """Each of them between two frames of the two sides; every third frame also aborted."""
    source = random.Random(1)
    dut = Vlans(beat_bytes=beat_bytes)
    sent, expected, seen = [], ([], []), ([], [])
    for stranger in strangers(source):
        for side in range(SIDES):
            plain, tagged = pair(side, source.choice([60, 61, 62, 63, 64]), source)
            sent += [(tagged, False), (tagged, True), (stranger, False), (stranger, True)]
            expected[side].append(plain)

    async def feed(ctx):
        source_pause, _ = PAUSES[pauses]()
        await put_packets(ctx, dut.received, [each for each, _ in sent], source_pause, lambda at: sent[at][1])

    async def check(ctx):
        await settle(ctx, lambda: sum(map(len, seen)) == sum(map(len, expected)))
        assert seen == expected
        counts = {f"rx_{name}": len(seen[at]) for at, name in enumerate(SIDE_NAMES)}
        await counted(ctx, dut, counts | {"rx_other": 2 * len(strangers(random.Random(1)))})

    simulate(dut, feed, check, background=[watch(dut, side, seen[side], never) for side in range(SIDES)])


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("deaf", range(SIDES))
def test_a_side_that_never_takes_does_not_stop_the_other(beat_bytes, deaf):
    """Its queue fills, the rest of its frames is dropped whole and counted."""
    source = random.Random(deaf)
    dut = Vlans(beat_bytes=beat_bytes)
    frames = [(side, pair(side, 500, source)) for _ in range(20) for side in range(SIDES)]
    hears = 1 - deaf
    seen = []

    async def feed(ctx):
        await put_packets(ctx, dut.received, [tagged for _, (_, tagged) in frames])

    async def check(ctx):
        await settle(ctx, lambda: len(seen) == 20)
        fit = QUEUE_BYTES // (-(-500 // beat_bytes) * beat_bytes)
        await counted(
            ctx,
            dut,
            {
                f"rx_{SIDE_NAMES[hears]}": 20,
                f"rx_{SIDE_NAMES[deaf]}": fit,
                f"rx_{SIDE_NAMES[deaf]}_dropped": 20 - fit,
            },
        )
        assert seen == [plain for side, (plain, _) in frames if side == hears]
        # What fitted is whole.
        for plain in [plain for side, (plain, _) in frames if side == deaf][:fit]:
            assert await take_packet(ctx, dut.o[deaf], trimmed=True) == plain

    simulate(dut, feed, check, background=[watch(dut, hears, seen, never)])


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_each_side_gets_its_tag_and_its_turn(beat_bytes, pauses):
    """Both send all the time, every length; one of five aborted, and some with nothing behind addresses."""
    source = random.Random(beat_bytes)
    source_pause, sink_pause = PAUSES[pauses]()
    dut = Vlans(beat_bytes=beat_bytes)
    short = [source.randbytes(length) for length in (1, beat_bytes - 1, 8, 11, 12) if length <= 12]
    sent = []
    for side in range(SIDES):
        frames = [frame(side, source.randbytes(length - 14)) for length in lengths(beat_bytes)]
        frames += [frames[0][:13], *short]
        source.shuffle(frames)
        sent.append(frames)
    seen = [], []
    order = []
    finished = []

    def feed(side):
        async def feeding(ctx):
            await put_packets(ctx, dut.i[side], sent[side], source_pause, lambda at: at % 5 == 4)
            finished.append(side)

        return feeding

    async def read(ctx):
        while True:
            packet = await take_packet(ctx, dut.sent, sink_pause)
            if packet is not None:
                seen[side_of(packet)].append(packet)
                order.append(side_of(packet))

    async def check(ctx):
        await settle(ctx, lambda: len(finished) == SIDES)
        short_ones = 0
        for side in range(SIDES):
            whole = [each for at, each in enumerate(sent[side]) if at % 5 != 4]
            short_ones += sum(len(each) <= 12 for each in whole)
            whole = [each for each in whole if len(each) > 12]
            assert seen[side] == [each[:12] + tag(side) + each[12:] for each in whole]
            found = Ether(next(each for each in seen[side] if len(each) > 60))
            assert (found[Dot1Q].vlan, found[Dot1Q].prio, found[Dot1Q].dei) == (DEFAULT_VLANS[side], 0, 0)
            assert found[Dot1Q].type == 0x88B5
        counts = {f"tx_{name}": len(seen[side]) for side, name in enumerate(SIDE_NAMES)}
        await counted(ctx, dut, counts | {"tx_short": short_ones})

    simulate(dut, feed(0), feed(1), check, background=[read])


def tag(side) -> bytes:
    """By scapy: what it writes behind the addresses of a tagged frame."""
    return bytes(Ether() / Dot1Q(vlan=DEFAULT_VLANS[side]))[12:16]


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_turns_are_fair_frame_by_frame(beat_bytes):
    dut = Vlans(beat_bytes=beat_bytes)
    sizes = (1500, 60)

    def feed(side):
        async def feeding(ctx):
            await put_packets(ctx, dut.i[side], [frame(side, bytes(sizes[side] - 14))] * 12)

        return feeding

    async def read(ctx):
        whose = [side_of(await take_packet(ctx, dut.sent)) for _ in range(24)]
        assert whose[0::2] == [whose[0]] * 12 and whose[1::2] == [1 - whose[0]] * 12

    simulate(dut, feed(0), feed(1), read)


@pytest.mark.slow
@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
@pytest.mark.slow
def test_a_random_mixture_is_accounted_for(beat_bytes, pauses):
    """Both ways at once, beside a model: each frame is where it belongs, or a register counts it."""
    source = random.Random(f"{beat_bytes} {pauses}")
    dut = Vlans(beat_bytes=beat_bytes)
    coming = []
    for _ in range(200):
        side = source.randrange(SIDES)
        plain, tagged = pair(side, source.choice([*range(14, 80), 300]), source)
        stranger = source.random() < 0.2
        coming.append((None, source.choice(strangers(source))) if stranger else (side, tagged))
    whole = [source.random() < 0.8 for _ in coming]
    going = [
        [frame(side, source.randbytes(source.randrange(120))) for _ in range(60)] for side in range(SIDES)
    ]
    seen, gone, fed = ([], []), ([], []), []
    pauses = {name: PAUSES[pauses]() for name in ("in", "out")}

    async def receive(ctx):
        await put_packets(
            ctx, dut.received, [each for _, each in coming], pauses["in"][0], lambda at: not whole[at]
        )
        fed.append("in")

    def send(side):
        async def sending(ctx):
            await put_packets(ctx, dut.i[side], going[side], pauses["out"][0])
            fed.append(side)

        return sending

    async def read(ctx):
        while True:
            packet = await take_packet(ctx, dut.sent, pauses["out"][1])
            gone[side_of(packet)].append(packet)

    async def check(ctx):
        await settle(ctx, lambda: len(fed) == 3, clocks=4000)
        counts = Counter()
        for side, name in enumerate(SIDE_NAMES):
            wanted = [
                each[:12] + each[16:]
                for at, (whose, each) in enumerate(coming)
                if whose == side and whole[at]
            ]
            # A subsequence: what is not there was dropped.
            rest = iter(wanted)
            assert all(each in rest for each in seen[side])
            counts[f"rx_{name}"] = len(seen[side])
            counts[f"rx_{name}_dropped"] = len(wanted) - len(seen[side])
            counts[f"tx_{name}"] = len(going[side])
            assert gone[side] == [each[:12] + tag(side) + each[12:] for each in going[side]]
        counts["rx_other"] = sum(whose is None and whole[at] for at, (whose, _) in enumerate(coming))
        await counted(ctx, dut, counts)

    watching = [watch(dut, side, seen[side], pauses["in"][1]) for side in range(SIDES)]
    simulate(dut, receive, send(0), send(1), check, background=[read, *watching])


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("extra", range(1, 17))
def test_sustains_a_beat_a_clock(beat_bytes, extra):
    """Whichever side of a block has more beats has one each clock."""
    length = 64 + extra
    count = 20
    split, tagging = Split(beat_bytes=beat_bytes), PutTag(beat_bytes=beat_bytes)
    tagged = pair(0, length, random.Random(0))[1]

    async def receive(ctx):
        for side in range(SIDES):
            ctx.set(split.identifiers[side], DEFAULT_VLANS[side])
        await put_packets(ctx, split.i, [tagged] * count)

    async def side(ctx):
        await full_rate(ctx, split.o[0], -(-length // beat_bytes), -(-len(tagged) // beat_bytes), count)

    async def send(ctx):
        await put_packets(ctx, tagging.i, [bytes(length)] * count)

    async def port(ctx):
        await full_rate(ctx, tagging.o, -(-(length + 4) // beat_bytes), -(-length // beat_bytes), count)

    simulate(split, receive, side)
    simulate(tagging, send, port)


async def full_rate(ctx, stream, beats_out, beats_in, count):
    await take(ctx, stream)
    ctx.set(stream.ready, 1)
    taken, clocks = 1, 0
    while taken < count * beats_out:
        taken += ctx.get(stream.valid)
        clocks += 1
        await ctx.tick()
    assert clocks <= count * max(beats_out, beats_in)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_identifiers_may_change_while_frames_pass(beat_bytes):
    """At any clock: a frame has one tag or the other, and a waiting beat does not change (the rules of
    streams are watched).
    """
    dut = PutTag(beat_bytes=beat_bytes)
    plain = frame(0, bytes(50))
    source = random.Random(2)

    async def change(ctx):
        while True:
            ctx.set(dut.identifier, source.choice([0x5A5, 0xA5A]))
            await ctx.tick()

    async def feed(ctx):
        await put_packets(ctx, dut.i, [plain] * 60)

    async def read(ctx):
        tags = set()
        for _ in range(60):
            packet = await take_packet(ctx, dut.o, PAUSES["sink"]()[1])
            assert packet[:12] + packet[16:] == plain
            tags.add(packet[12:16].hex())
        assert tags == {"810005a5", "81000a5a"}

    simulate(dut, feed, read, background=[change])


def word(network, server):
    return registers()["identifiers"].pack({"network": network, "server": server})


@pytest.mark.parametrize(
    ("network", "server"), [(0, 7), (7, 0), (4095, 7), (7, 4095), (7, 7), (0, 0), (4095, 4095)]
)
def test_identifiers_that_make_no_two_vlans_are_refused(network, server):
    dut = VlanRegisters(identifiers=(4094, 1))

    async def write(ctx):
        assert await access(ctx, dut.bus, 0) == word(4094, 1)
        assert await store(ctx, dut.bus, word(network, server))
        assert await access(ctx, dut.bus, 0) == word(4094, 1)
        assert not await store(ctx, dut.bus, word(100, 200))
        assert await access(ctx, dut.bus, 0) == word(100, 200)
        assert [ctx.get(each) for each in dut.identifiers] == [100, 200]

    simulate(dut, write)


async def store(ctx, bus, value, at=0):
    """Writes the register; True where that is an error."""
    ctx.set(bus.write_address, at)
    ctx.set(bus.write_data, value)
    ctx.set(bus.write, 1)
    _, _, done, error = await ctx.tick().sample(bus.write_done, bus.write_error)
    assert done
    ctx.set(bus.write, 0)
    await ctx.tick()
    return bool(error)


def test_gaps_and_writes_to_counters_are_errors():
    dut = VlanRegisters()

    async def run(ctx):
        first = registers()["identifiers"].address
        there = {(each.address - first) // 4 for each in registers().values()}
        for at in range(1 << len(dut.bus.read_address)):
            assert (await access(ctx, dut.bus, at) is not None) == (at in there)
            assert await store(ctx, dut.bus, word(5, 6), at) == (at != 0)

    simulate(dut, run)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_what_was_written_is_what_is_heard(beat_bytes):
    dut = Vlans(beat_bytes=beat_bytes, identifiers=(7, 8))
    plain = frame(0, bytes(60))

    async def run(ctx):
        for side in range(SIDES):
            ctx.set(dut.o[side].ready, 0)
        await put_packets(ctx, dut.received, [frame(0, bytes(60), Dot1Q(vlan=8))])
        assert await take_packet(ctx, dut.o[1]) == plain
        assert not await store(ctx, dut.bus, word(8, 7))
        await put_packets(ctx, dut.received, [frame(0, bytes(60), Dot1Q(vlan=8))])
        assert await take_packet(ctx, dut.o[0]) == plain

    simulate(dut, run)


@pytest.mark.parametrize(
    ("identifiers", "message"),
    [
        ((0, 2), "a VLAN identifier must be 1 to 4094, not 0"),
        ((1, 4095), "a VLAN identifier must be 1 to 4094, not 4095"),
        ((9, 9), r"there must be 2 different VLAN identifiers, not \(9, 9\)"),
    ],
)
def test_identifiers_of_no_two_vlans_are_refused(identifiers, message):
    with pytest.raises(ValueError, match=message):
        check(identifiers)
