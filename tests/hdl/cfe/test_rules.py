# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import ipaddress
import random

import pytest

from spigate.hdl.cfe.rules import Rules
from spigate.hdl.contract.enums import Action, Port
from tests.hdl.cfe.frames import OUTCOME, first_match, outcome
from tests.hdl.cfe.tables import entry
from tests.hdl.streams import PAUSES, put, simulate, take

ANY = {
    "source_port_high": 65535,
    "destination_port_high": 65535,
    "any_protocol": 1,
    "ingress": 0b1011,
    "valid": 1,
}


def address(text):
    return int(ipaddress.ip_address(text))


def prefix(name, text):
    network = ipaddress.ip_network(text, strict=False)
    return {name: int(network.network_address), f"{name}_mask": int(network.netmask)}


def key(
    source="192.0.2.1",
    destination="198.51.100.7",
    protocol=17,
    source_port=None,
    destination_port=None,
    ingress=Port.SERVER,
):
    ports = source_port is not None
    # What a packet without ports has in their place must not matter.
    return {
        "source": address(source),
        "destination": address(destination),
        "protocol": protocol,
        "ingress": ingress,
        "ports": ports,
        "source_port": source_port if ports else 0x1234,
        "destination_port": destination_port if ports else 0x5678,
    }


def read(result):
    return (result.rule, *(getattr(result.outcome, name) for name in OUTCOME)) if result.hit else None


def run(count, table, keys, pauses="none"):
    rules = Rules(count=count)
    source_pause, sink_pause = PAUSES[pauses]()
    results = []

    async def source(ctx):
        await put(ctx, rules.write, [entry("rule", index, **rule) for index, rule in table.items()])
        await put(ctx, rules.i, keys, source_pause)

    async def sink(ctx):
        for _ in keys:
            result = await take(ctx, rules.o, sink_pause)
            results.append(read(result))

    simulate(rules, source, sink)
    return results


def rule(at, **fields):
    return {
        **ANY,
        "action": at % 4,
        "dfe": at % 16,
        "sa": at * 1021 % 65536,
        "route": at * 5 % 256,
        "generation": at * 7 % 256,
        "clear": at % 2,
        **fields,
    }


@pytest.mark.parametrize("count", [4, 32, 64])
@pytest.mark.parametrize("pauses", PAUSES)
def test_first_match_wins_at_every_place(count, pauses):
    """Rule n matches hosts n and up; written last to first."""
    table = {at: rule(at, **prefix("source", f"10.0.0.{at}/32")) for at in reversed(range(count - 1))}
    table[count - 1] = rule(count - 1, **prefix("source", "10.0.0.0/8"))
    keys = [key(source=f"10.0.0.{at}") for at in range(count + 3)] + [key(source="11.0.0.0")]
    assert run(count, table, keys, pauses) == [first_match(table, one) for one in keys]
    table[2] = rule(2)
    assert run(count, table, keys, pauses) == [first_match(table, one) for one in keys]


CASES = {
    "prefix": (
        prefix("destination", "198.51.100.0/25"),
        [
            key(destination=host)
            for host in ("198.51.99.255", "198.51.100.0", "198.51.100.127", "198.51.100.128")
        ],
    ),
    "every prefix length": ({}, []),
    "port range": (
        {"destination_port_low": 1000, "destination_port_high": 2000},
        [
            *(key(source_port=7, destination_port=port) for port in (0, 999, 1000, 1500, 2000, 2001, 65535)),
            key(protocol=1),
        ],
    ),
    "source port": (
        {"source_port_low": 0, "source_port_high": 255},
        [key(source_port=port, destination_port=9) for port in (0, 255, 256, 65535)] + [key(protocol=1)],
    ),
    "high end": (
        {"source_port_low": 65535},
        [key(source_port=port, destination_port=9) for port in (0, 65534, 65535)],
    ),
    "all ports": ({}, [key(protocol=1), key(source_port=0, destination_port=65535)]),
    "protocol": (
        {"any_protocol": 0, "protocol": 17},
        [key(protocol=protocol) for protocol in (16, 17, 0, 255)],
    ),
    "ingress": (
        {"ingress": 0b1001},
        [key(ingress=port) for port in (Port.NETWORK, Port.SERVER, Port.RECIRCULATE)],
    ),
    "invalid": ({"valid": 0}, [key()]),
}


@pytest.mark.parametrize("case", CASES)
def test_semantics(case):
    fields, keys = CASES[case]
    table = {5: rule(7, **fields)}
    if case == "every prefix length":
        table = {at: rule(at, **prefix("source", f"255.255.255.255/{32 - at}")) for at in range(32)}
        keys = [key(source=str(ipaddress.ip_address(0xFFFF_FFFF ^ (1 << at) >> 1))) for at in range(33)]
    assert run(32, table, keys) == [first_match(table, one) for one in keys]


def test_random_rules_and_packets():
    rng = random.Random(11)
    hosts = [f"10.{a}.{b}.{c}" for a in (0, 1) for b in (0, 128) for c in (1, 130)]
    table, keys = {}, []
    for at in range(32):
        low, high = sorted(rng.choices([0, 53, 443, 1024, 65535], k=2))
        table[at] = rule(
            at,
            **prefix("source", f"{rng.choice(hosts)}/{rng.choice([0, 9, 24, 25, 32])}"),
            **prefix("destination", f"{rng.choice(hosts)}/{rng.choice([0, 8, 17, 32])}"),
            **rng.choice([{}, {"destination_port_low": low, "destination_port_high": high}]),
            any_protocol=rng.randrange(2),
            protocol=rng.choice([1, 6, 17]),
            ingress=rng.choice([1, 2, 11]),
            valid=rng.random() < 0.8,
        )
    for _ in range(300):
        protocol = rng.choice([1, 6, 17])
        ports = (
            {}
            if protocol == 1
            else {
                "source_port": rng.choice([0, 1024, 50000]),
                "destination_port": rng.choice([53, 443, 65535]),
            }
        )
        keys.append(
            key(rng.choice(hosts), rng.choice(hosts), protocol, ingress=rng.choice([0, 1, 3]), **ports)
        )
    expected = [first_match(table, one) for one in keys]
    assert len(set(expected)) > 10
    assert run(32, table, keys) == expected


@pytest.mark.parametrize("count", [32, 64])
def test_clocks_a_lookup(count):
    rules = Rules(count=count)
    lookups = 20

    async def source(ctx):
        await put(ctx, rules.i, [key()] * lookups)

    async def sink(ctx):
        ctx.set(rules.o.ready, 1)
        taken = clocks = 0
        while taken < lookups:
            _, _, valid = await ctx.tick().sample(rules.o.valid)
            clocks += 1
            taken += valid
        assert clocks <= lookups * count // 4 + 8

    simulate(rules, source, sink)


def test_a_lookup_sees_the_table_before_or_after_a_write():
    """Two rules swap places, entry by entry, under lookups: some rule always matches, whole."""
    rules = Rules(count=8)
    first, second = rule(1, sa=0x1111, route=0x11), rule(2, sa=0x2222, route=0x22)
    rounds = 40
    seen = set()

    async def writer(ctx):
        await put(ctx, rules.write, [entry("rule", 6, **first)])
        for at in range(rounds):
            await put(ctx, rules.write, [entry("rule", 1, **(second if at % 2 else first))])
            await ctx.tick().repeat(1 + at % 7)

    async def source(ctx):
        await ctx.tick().repeat(2)
        await put(ctx, rules.i, [key()] * 100)

    async def sink(ctx):
        for _ in range(100):
            result = await take(ctx, rules.o)
            seen.add(read(result))

    simulate(rules, writer, source, sink)
    assert seen == {(1, *outcome(first)), (1, *outcome(second))}


def test_ignores_an_index_beyond_the_table():
    assert run(32, {32: rule(1), 1 << 12: rule(2), 0x8000: rule(3)}, [key()]) == [None]


@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
@pytest.mark.parametrize("count", [0, 30, 68])
def test_refuses_sizes_it_cannot_have(count):
    with pytest.raises(ValueError, match=f"rules must be a multiple of 4, 4 to 64, not {count}"):
        Rules(count=count)


def test_actions_are_those_of_the_register_file():
    assert [action.name for action in Action] == ["PROTECT", "BYPASS", "DISCARD", "PUNT"]
