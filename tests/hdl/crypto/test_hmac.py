# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import hmac
import json
import random
from dataclasses import dataclass
from pathlib import Path

import cryptography_vectors
import pytest

from spigate.firmware_py.tables.midstate import hmac_midstates
from spigate.hdl.contract.enums import Auth
from spigate.hdl.crypto.hmac import Hmac
from spigate.hdl.crypto.sequencer import LEAD
from tests.hdl.streams import PAUSES, never, put, simulate, take

WYCHEPROOF = Path(__file__).parents[2] / "data" / "wycheproof"
AUTH = {"sha1": Auth.HMAC_SHA1_96, "sha256": Auth.HMAC_SHA256_128}
DIGEST_BYTES = {"sha1": 20, "sha256": 32}


@dataclass(frozen=True)
class Packet:
    algorithm: str
    key: bytes
    message: bytes

    @property
    def expected(self) -> bytes:
        return hmac.digest(self.key, self.message, self.algorithm)

    @property
    def rows(self) -> list[int]:
        """``auth_0`` to ``auth_3``; what SHA-1 leaves of them is filled with what must not matter."""
        inner, outer = hmac_midstates(self.algorithm, self.key)
        material = inner.ljust(32, b"\x5a") + outer.ljust(32, b"\xa5")
        return [int.from_bytes(material[at : at + 16], "little") for at in range(0, 64, 16)]

    @property
    def items(self) -> list[dict]:
        chunks = [self.message[at : at + 4] for at in range(0, len(self.message), 4)] or [b""]
        return [
            {
                "data": int.from_bytes(chunk.ljust(4, b"\xc3"), "little"),
                "count": len(chunk),
                "last": at == len(chunks),
            }
            for at, chunk in enumerate(chunks, 1)
        ]


def benches_of(context, packets, digests, pauses=(never, never)):
    """Puts ``packets`` through ``context`` and collects their ``digests``."""
    source, sink = pauses

    async def start(ctx):
        await put(ctx, context.start, [{"auth": AUTH[packet.algorithm]} for packet in packets], source)

    async def midstate(ctx):
        await put(ctx, context.midstate, [row for packet in packets for row in packet.rows], source)

    async def message(ctx):
        await put(ctx, context.i, [item for packet in packets for item in packet.items], source)

    async def digest(ctx):
        for packet in packets:
            value = await take(ctx, context.digest, sink)
            digests.append(value.to_bytes(32, "little")[: DIGEST_BYTES[packet.algorithm]])

    return start, midstate, message, digest


def run(*queues, pauses=(never, never), clocks=400_000, auths=tuple(AUTH.values())):
    """Digests of a queue of packets a context."""
    block = Hmac(auths=auths)
    digests = [[] for _ in queues]
    simulate(
        block,
        *(
            bench
            for at, queue in enumerate(queues)
            for bench in benches_of(block.context[at], queue, digests[at], pauses)
        ),
        clocks=clocks,
    )
    return digests


def check(*queues, **options):
    for queue, digests in zip(queues, run(*queues, **options), strict=True):
        for packet, digest in zip(queue, digests, strict=True):
            assert digest == packet.expected, packet


def rfc_vectors(file):
    with cryptography_vectors.open_vector_file(f"HMAC/{file}", "r") as lines:
        fields = [line.split(" = ", 1) for line in lines.read().splitlines() if " = " in line]
    for at in range(0, len(fields), 4):
        values = dict(fields[at : at + 4])
        yield bytes.fromhex(values["Key"]), bytes.fromhex(values["Msg"]), bytes.fromhex(values["MD"])


def test_rfc_2202_and_4231():
    vectors = {
        algorithm: list(rfc_vectors(file))
        for algorithm, file in (("sha1", "rfc-2202-sha1.txt"), ("sha256", "rfc-4231-sha256.txt"))
    }
    assert all(len(found) >= 6 for found in vectors.values())
    digests = run(
        *(
            [Packet(algorithm, key, message) for key, message, _ in found]
            for algorithm, found in vectors.items()
        )
    )
    for found, given in zip(vectors.values(), digests, strict=True):
        for (_, _, expected), digest in zip(found, given, strict=True):
            assert digest[: len(expected)] == expected


# NIST's examples for FIPS 198-1: {algorithm: {bytes of the key 00 01 02...: MAC}}.
NIST = {
    "sha1": {
        64: "5fd596ee78d5553c8ff4e72d266dfd192366da29",
        20: "4c99ff0cb1b31bd33f8431dbaf4d17fcd356a807",
        100: "2d51b2f7750e410584662e38f133435f4c4fd42a",
    },
    "sha256": {
        64: "8bb9a1db9806f20df7f77b82138c7914d174d59e13dc4d0169c9057b133e1d62",
        32: "a28cf43130ee696a98f14a37678b56bcfcbdd9e5cf69717fecf5480f0ebdf790",
        100: "bdccb6c72ddeadb500ae768386cb38cc41c63dbb0878ddb9c7a38a431b78378d",
    },
}


def test_nist_examples():
    queues = [
        [
            Packet(
                algorithm,
                bytes(range(size)),
                b"Sample message for keylen" + (b"<" if size < 64 else b"=") + b"blocklen",
            )
            for size in macs
        ]
        for algorithm, macs in NIST.items()
    ]
    found = [[digest.hex() for digest in digests] for digests in run(*queues)]
    assert found == [list(macs.values()) for macs in NIST.values()]


@pytest.mark.slow
def test_wycheproof():
    """Digests of valid vectors begin with the tag, those of invalid ones do not."""
    vectors = {}
    for algorithm in AUTH:
        groups = json.loads((WYCHEPROOF / f"hmac_{algorithm}_test.json").read_text())["testGroups"]
        vectors[algorithm] = [test for group in groups for test in group["tests"]]
    # Vectors that differ only in the tag are one packet.
    queues = {
        algorithm: [
            Packet(algorithm, bytes.fromhex(key), bytes.fromhex(message))
            for key, message in sorted({(test["key"], test["msg"]) for test in tests})
        ]
        for algorithm, tests in vectors.items()
    }
    found = {
        (packet.algorithm, packet.key.hex(), packet.message.hex()): digest
        for queue, digests in zip(queues.values(), run(*queues.values()), strict=True)
        for packet, digest in zip(queue, digests, strict=True)
    }
    results = {"valid": 0, "invalid": 0}
    for algorithm, tests in vectors.items():
        for test in tests:
            tag = bytes.fromhex(test["tag"])
            matches = found[algorithm, test["key"], test["msg"]][: len(tag)] == tag
            assert matches == (test["result"] == "valid"), test["tcId"]
            results[test["result"]] += 1
    assert min(results.values()) > 100


@pytest.mark.slow
def test_every_length_around_the_ends_of_blocks():
    """The padding fits a block's rest up to 55 bytes of it, and a word is whole every 4 bytes."""
    source = random.Random(1)
    queues = [[], []]
    for length in range(201):
        if length % 64 in (*range(8), *range(48, 64)):
            for at, algorithm in enumerate(AUTH):
                queues[(at + length // 2) % 2].append(
                    Packet(algorithm, source.randbytes(20), source.randbytes(length))
                )
    check(*queues)


@pytest.mark.parametrize("pauses", PAUSES)
def test_pauses(pauses):
    source = random.Random(2)
    queues = [
        [
            Packet(source.choice(list(AUTH)), source.randbytes(24), source.randbytes(length))
            for length in lengths
        ]
        for lengths in ([0, 5, 55, 120, 64, 200], [63, 0, 0, 130, 56, 1])
    ]
    check(*queues, pauses=PAUSES[pauses]())


def test_one_context_alone():
    source = random.Random(3)
    queue = [Packet(algorithm, source.randbytes(20), source.randbytes(100)) for algorithm in [*AUTH, *AUTH]]
    check(queue)
    check([], queue)


@pytest.mark.parametrize("algorithm", AUTH)
def test_made_for_one_algorithm_it_does_that_one(algorithm):
    source = random.Random(5)
    queues = [
        [Packet(algorithm, source.randbytes(20), source.randbytes(size)) for size in (0, 55, 56, 120)]
        for _ in range(2)
    ]
    check(*queues, auths=(AUTH[algorithm],))


def test_refuses_what_it_cannot_be_made_for():
    with pytest.raises(ValueError, match="auths must be of HMAC_SHA1_96, HMAC_SHA256_128, not "):
        Hmac(auths=())
    with pytest.raises(ValueError, match="auths must be of"):
        Hmac(auths=(Auth.NONE,))


def test_a_digest_that_is_not_taken_holds_up_its_context_alone():
    block = Hmac()
    source = random.Random(4)
    queues = [
        [Packet(algorithm, source.randbytes(20), source.randbytes(70)) for algorithm in [*AUTH, *AUTH]]
        for _ in range(2)
    ]
    digests = [[], []]
    held, free = (benches_of(block.context[at], queues[at], digests[at]) for at in range(2))

    async def later(ctx):
        while len(digests[1]) < len(queues[1]):
            await ctx.tick()
        await ctx.tick().repeat(1000)
        assert not digests[0]
        await held[-1](ctx)

    simulate(block, *held[:-1], later, *free)
    assert digests == [[packet.expected for packet in queue] for queue in queues]


@pytest.mark.slow
@pytest.mark.parametrize("algorithms", [("sha1", "sha1"), ("sha256", "sha256"), ("sha1", "sha256")])
def test_clocks_a_packet(algorithms):
    """No clock is lost between the blocks of a packet, and none because the other context is busy."""
    block = Hmac()
    rounds = {"sha1": 80, "sha256": 64}
    # What a 1400-byte packet makes with AES-CBC: ESP header, IV, text with padding.
    queues = [[Packet(algorithm, b"k", bytes(8 + 16 + 1408))] * 4 for algorithm in algorithms]
    spent = [[], []]

    def digest(at):
        async def bench(ctx):
            ctx.set(block.context[at].digest.ready, 1)
            clocks = 0
            while len(spent[at]) < len(queues[at]):
                clocks += 1
                if ctx.get(block.context[at].digest.valid):
                    spent[at].append(clocks)
                    clocks = 0
                await ctx.tick()

        return bench

    benches = [
        bench
        for at, queue in enumerate(queues)
        for bench in (*benches_of(block.context[at], queue, [])[:-1], digest(at))
    ]
    simulate(block, *benches)
    for algorithm, clocks in zip(algorithms, spent, strict=True):
        expected = 2 * ((23 + 1) * rounds[algorithm] + 2 * LEAD + 1)
        assert clocks[1:] == [expected] * 3
        if algorithm == "sha256":
            # Two packets in that time: at least 7.2 bits of payload a clock.
            assert 2 * 1400 * 8 / expected >= 7.2


def test_midstates_of_the_next_packet_are_taken_while_one_runs():
    block = Hmac()
    packet = Packet("sha256", b"key", bytes(60))

    async def bench(ctx):
        await put(ctx, block.context[0].i, packet.items)
        for _ in range(2):
            await put(ctx, block.context[0].start, [{"auth": AUTH[packet.algorithm]}])
            await put(ctx, block.context[0].midstate, packet.rows)
        assert not ctx.get(block.context[0].digest.valid)

    simulate(block, bench, clocks=2 * 64)
