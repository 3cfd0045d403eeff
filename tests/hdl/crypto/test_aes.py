# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from spigate.hdl.contract.enums import KeySize
from spigate.hdl.crypto.aes import Aes
from spigate.hdl.crypto.key_schedule import KeySchedule
from tests.hdl.streams import PAUSES, put, simulate

FIPS_197 = [
    # Appendix C: key, plain text, cipher text.
    (
        "000102030405060708090a0b0c0d0e0f",
        "00112233445566778899aabbccddeeff",
        "69c4e0d86a7b0430d8cdb78070b4c55a",
    ),
    (
        "000102030405060708090a0b0c0d0e0f1011121314151617",
        "00112233445566778899aabbccddeeff",
        "dda97ca4864cdfe06eaf70a0ec0d7191",
    ),
    (
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "00112233445566778899aabbccddeeff",
        "8ea2b7ca516745bfeafc49904b496089",
    ),
    # Appendix B.
    (
        "2b7e151628aed2a6abf7158809cf4f3c",
        "3243f6a8885a308d313198a2e0370734",
        "3925841d02dc09fbdc118597196a0b32",
    ),
]
SIZES = {16: KeySize.AES128, 24: KeySize.AES192, 32: KeySize.AES256}


class KeyedAes(wiring.Component):
    """Both halves of AES, as the engine joins them."""

    def __init__(self):
        self.aes, self.schedule = Aes(), KeySchedule()
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.aes, m.submodules.schedule = self.aes, self.schedule
        wiring.connect(m, self.aes.keys, self.schedule.read)
        return m


async def expand(ctx, schedule, context, key, decrypt, bank):
    await put(ctx, schedule.start[context], [{"key_size": SIZES[len(key)], "decrypt": decrypt, "bank": bank}])
    done = []

    row = key.ljust(32, b"\x5a")
    await put(
        ctx, schedule.key[context], [int.from_bytes(row[:16], "little"), int.from_bytes(row[16:], "little")]
    )
    while not done or not done[-1] >> context & 1:
        done.append(ctx.get(schedule.done))
        await ctx.tick()


def oracle(key, block, decrypt):
    cipher = Cipher(algorithms.AES(key), modes.ECB())
    worker = cipher.decryptor() if decrypt else cipher.encryptor()
    return worker.update(block) + worker.finalize()


async def results(ctx, aes, context, count):
    got = []
    while len(got) < count:
        _, _, done, result = await ctx.tick().sample(aes.done, aes.result)
        if done >> context & 1:
            got.append(result.to_bytes(16, "little"))
    return got


def start(key, block, decrypt, bank):
    return {
        "block": int.from_bytes(block, "little"),
        "decrypt": decrypt,
        "rounds": len(key) // 4 + 6,
        "bank": bank,
    }


@pytest.mark.parametrize("decrypt", [0, 1])
@pytest.mark.parametrize("context", [0, 1])
def test_fips_197(decrypt, context):
    dut = KeyedAes()

    async def bench(ctx):
        for n, (key, plain, secret) in enumerate(FIPS_197):
            key, plain, secret = (bytes.fromhex(text) for text in (key, plain, secret))
            given, expected = (secret, plain) if decrypt else (plain, secret)
            await expand(ctx, dut.schedule, context, key, decrypt, n % 2)
            await put(ctx, dut.aes.start[context], [start(key, given, decrypt, n % 2)])
            assert await results(ctx, dut.aes, context, 1) == [expected]

    simulate(dut, bench)


@pytest.mark.parametrize("pauses", PAUSES)
def test_two_contexts_with_changing_keys(pauses):
    dut = KeyedAes()

    def bench(context):
        source = random.Random(f"{pauses}{context}")
        pause = PAUSES[pauses]()[context]

        async def run(ctx):
            for n in range(6):
                key, decrypt = source.randbytes(source.choice([16, 24, 32])), source.randrange(2)
                blocks = [source.randbytes(16) for _ in range(source.randrange(1, 4))]
                await expand(ctx, dut.schedule, context, key, decrypt, n % 2)
                got = []
                for block in blocks:
                    await put(ctx, dut.aes.start[context], [start(key, block, decrypt, n % 2)], pause)
                    got += await results(ctx, dut.aes, context, 1)
                assert got == [oracle(key, block, decrypt) for block in blocks]

        return run

    simulate(dut, bench(0), bench(1))


@pytest.mark.parametrize("key_bytes", SIZES)
def test_a_block_in_two_clocks_a_round_and_context(key_bytes):
    dut = KeyedAes()
    key, blocks = random.Random(1).randbytes(key_bytes), [random.Random(n).randbytes(16) for n in range(8)]
    clocks = {}

    def source(context):
        async def run(ctx):
            await expand(ctx, dut.schedule, context, key, context, 0)
            await put(ctx, dut.aes.start[context], [start(key, block, context, 0) for block in blocks])

        return run

    def sink(context):
        async def run(ctx):
            got, times, clock = [], [], 0
            while len(got) < len(blocks):
                _, _, done, result = await ctx.tick().sample(dut.aes.done, dut.aes.result)
                clock += 1
                if done >> context & 1:
                    got.append(result.to_bytes(16, "little"))
                    times.append(clock)
            assert got == [oracle(key, block, context) for block in blocks]
            clocks[context] = {later - earlier for earlier, later in zip(times, times[1:], strict=False)}

        return run

    simulate(dut, source(0), source(1), sink(0), sink(1))
    assert clocks == {0: {2 * (key_bytes // 4 + 6)}, 1: {2 * (key_bytes // 4 + 6)}}
