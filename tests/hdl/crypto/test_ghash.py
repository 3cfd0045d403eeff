# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from spigate.hdl.crypto.ghash import Ghash
from tests.hdl.streams import PAUSES, put, simulate, take


def runs(text: bytes, is_text: int) -> list[dict]:
    return [
        {
            "data": int.from_bytes(text[at : at + 4].ljust(4, b"\xa5"), "little"),
            "count": len(text[at : at + 4]),
            "text": is_text,
            "end": at + 4 >= len(text),
            "last": 0,
        }
        for at in range(0, len(text), 4)
    ]


def words(associated: bytes, text: bytes) -> list[dict]:
    result = runs(associated, 0) + runs(text, 1) or [{"data": 0, "count": 0, "text": 0, "end": 1, "last": 0}]
    result[-1]["last"] = 1
    return result


def oracle(key: bytes, nonce: bytes, associated: bytes, plain: bytes) -> tuple[bytes, bytes, bytes]:
    """Hash subkey, cipher text and GHASH value of a GCM encryption: the tag without its mask."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    worker = Cipher(algorithms.AES(key), modes.GCM(nonce)).encryptor()
    worker.authenticate_additional_data(associated)
    text = worker.update(plain) + worker.finalize()
    mask = block.update(nonce + bytes([0, 0, 0, 1]))
    return block.update(bytes(16)), text, bytes(a ^ b for a, b in zip(worker.tag, mask, strict=True))


@pytest.mark.parametrize("pauses", PAUSES)
def test_two_contexts_against_gcm(pauses):
    dut = Ghash()
    lengths = [0, 1, 4, 5, 8, 15, 16, 17, 20, 31, 32, 33, 70]
    packets = [[], []]
    for context in range(2):
        source = random.Random(f"{pauses}{context}")
        for n, length in enumerate(lengths):
            associated, plain = (
                source.randbytes(length),
                source.randbytes(lengths[-1 - (n + context) % len(lengths)]),
            )
            subkey, text, value = oracle(source.randbytes(16), source.randbytes(12), associated, plain)
            packets[context].append((subkey, words(associated, text), value))

    def keys(context):
        async def run(ctx):
            await put(
                ctx, dut.key[context], [int.from_bytes(subkey, "little") for subkey, _, _ in packets[context]]
            )

        return run

    def source(context):
        async def run(ctx):
            for _, items, _ in packets[context]:
                await put(ctx, dut.i[context], items, PAUSES[pauses]()[0])

        return run

    def sink(context):
        async def run(ctx):
            for _, _, value in packets[context]:
                assert (await take(ctx, dut.digest[context], PAUSES[pauses]()[1])).to_bytes(
                    16, "little"
                ) == value

        return run

    simulate(dut, *(make(context) for make in (keys, source, sink) for context in range(2)))


def test_eight_clocks_a_block_with_both_contexts():
    dut = Ghash()
    blocks = 20
    subkey, text, value = oracle(bytes(16), bytes(12), b"", bytes(16 * (blocks - 1)))

    def bench(context):
        async def run(ctx):
            await put(ctx, dut.key[context], [int.from_bytes(subkey, "little")])
            await put(ctx, dut.i[context], words(b"", text))
            assert (await take(ctx, dut.digest[context])).to_bytes(16, "little") == value

        return run

    simulate(dut, bench(0), bench(1), clocks=1000)
