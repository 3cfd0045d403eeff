# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import itertools
import random
from dataclasses import replace

import pytest

from spigate.hdl.contract.enums import Auth, Cipher
from tests.hdl.crypto.engine_packets import Packet, check, random_packet, run, seal

pytestmark = pytest.mark.slow

GCM, CBC, NULL = Cipher.AES_GCM, Cipher.AES_CBC, Cipher.NULL
SUITES = [
    (GCM, Auth.NONE),
    (CBC, Auth.NONE),
    (NULL, Auth.NONE),
    *((cipher, auth) for cipher in (CBC, NULL) for auth in (Auth.HMAC_SHA1_96, Auth.HMAC_SHA256_128)),
]
AUTHENTIC = [suite for suite in SUITES if suite[0] == GCM or suite[1] != Auth.NONE]


@pytest.mark.parametrize("pause", [0, 0.3])
@pytest.mark.parametrize(
    "suites", [[GCM], [CBC], [NULL], [GCM, CBC, NULL]], ids=["gcm", "cbc", "null", "mixed"]
)
def test_packets_shaped_as_esp(suites, pause, tmp_path):
    source = random.Random(f"{suites}{pause}")
    chosen = [suite for suite in SUITES if suite[0] in suites]
    packets = [[random_packet(source, suites=chosen) for _ in range(30)] for _ in range(2)]
    check(packets, run(tmp_path, packets, pause=pause))


def some(suite, *, encrypt, text=48, seed=1) -> Packet:
    source = random.Random(seed)
    cipher, auth = suite
    packet = Packet(
        cipher,
        key=source.randbytes(16),
        auth=auth,
        auth_key=source.randbytes(20),
        encrypt=encrypt,
        associated=source.randbytes(8),
        salt=source.randbytes(4),
        text=source.randbytes(text),
        iv=source.randbytes({GCM: 8, CBC: 16, NULL: 0}[cipher]),
    )
    if not encrypt and (cipher, auth) in AUTHENTIC:
        seal(packet)
    return packet


def test_on_icarus(tmp_path):
    """The same answers from a simulator that knows undefined values."""
    source = random.Random(1)
    packets = [[random_packet(source, suites=SUITES, longest=32) for _ in range(5)] for _ in range(2)]
    check(packets, run(tmp_path, packets, simulator="icarus"))


def test_icv_of_another_length_or_value_is_wrong(tmp_path):
    packets, verdicts = [], []
    for suite in AUTHENTIC:
        right = some(suite, encrypt=False)
        size = len(right.icv)
        wrong = [
            b"",
            right.icv[:4],
            right.icv[:-4],
            right.icv[:-1],
            right.icv + b"\0",
            right.icv + bytes(4),
            right.icv * 2,
            right.icv * 9,
        ]
        wrong += [right.icv[:at] + bytes([right.icv[at] ^ 0x80]) + right.icv[at + 1 :] for at in range(size)]
        for icv in [right.icv, *wrong, right.icv]:
            packets.append(replace(right, icv=icv))
            verdicts.append(icv == right.icv)
    # One context meets them backwards, so that each comes behind every kind of mishap.
    outcomes = run(tmp_path, [packets, packets[::-1]])
    assert [outcome.ok for outcome in outcomes[0]] == verdicts
    assert [outcome.ok for outcome in outcomes[1]] == verdicts[::-1]
    for outcome, packet in zip(outcomes[0], packets, strict=True):
        assert outcome.runs == packet.expected()[0]


def test_parts_may_be_absent(tmp_path):
    packets = []
    for suite in SUITES:
        for encrypt in (True, False):
            for associated, text, behind in itertools.product(
                (b"", b"abcdefgh"), (b"", bytes(32)), (b"", b"ijkl")
            ):
                packet = replace(
                    some(suite, encrypt=encrypt),
                    associated=associated,
                    text=text,
                    behind=b"" if suite[0] == GCM else behind,
                )
                if not encrypt and suite in AUTHENTIC:
                    seal(packet)
                if any((packet.associated, packet.iv, packet.text, packet.behind, packet.icv)):
                    packets.append(packet)
    source = random.Random(1)
    both = [packets, source.sample(packets, len(packets))]
    check(both, run(tmp_path, both, pause=0.1))


@pytest.mark.parametrize("pause", [0, 0.3])
def test_cbc_with_a_part_of_a_block_is_wrong_and_harms_nobody(pause, tmp_path):
    packets = []
    for auth in (Auth.NONE, Auth.HMAC_SHA1_96, Auth.HMAC_SHA256_128):
        for encrypt in (True, False):
            for length in (1, 4, 5, 8, 12, 15, 17, 20, 31, 36, 44):
                if auth != Auth.NONE and length % 4:
                    continue
                for iv in (16, 8, 4, 0):
                    broken = replace(
                        some((CBC, auth), encrypt=encrypt, text=length), derive_iv=encrypt and length % 8 == 4
                    )
                    broken.iv = broken.iv[:iv]
                    packets += [broken, some((CBC, auth), encrypt=not encrypt)]
    source = random.Random(1)
    order = source.sample(range(len(packets)), len(packets))
    outcomes = run(tmp_path, [packets, [packets[at] for at in order]], pause=pause)
    for made, own in ((outcomes[0], packets), (outcomes[1], [packets[at] for at in order])):
        for outcome, packet in zip(made, own, strict=True):
            whole = len(packet.text) % 16 == 0
            assert outcome.ok == whole
            assert not whole or outcome.runs == packet.expected()[0]


@pytest.mark.parametrize("key_bytes", [(16, 16), (24, 24), (32, 32), (16, 32)])
def test_clocks_of_a_packet_with_gcm(key_bytes, tmp_path):
    """Both contexts without pauses: a packet takes its blocks' rounds and hardly more."""
    for size in (64, 256, 1400):
        packets = [
            [
                replace(some((GCM, Auth.NONE), encrypt=True, text=size), key=bytes(key_bytes[0]))
                for _ in range(8)
            ],
            [
                replace(some((GCM, Auth.NONE), encrypt=False, text=size), key=bytes(key_bytes[1]))
                for _ in range(8)
            ],
        ]
        for packet in packets[1]:
            seal(packet)
        outcomes = run(tmp_path, packets)
        check(packets, outcomes)
        blocks = -(-size // 16) + 1
        for own, made in zip(key_bytes, outcomes, strict=True):
            assert clocks_of_a_packet(made) / 2 <= blocks * (own // 4 + 6) + 16


@pytest.mark.parametrize("auth, block", [(Auth.HMAC_SHA256_128, 128), (Auth.HMAC_SHA1_96, 160)])
@pytest.mark.parametrize("key_bytes", [16, 32])
def test_cbc_never_starves_hmac(auth, block, key_bytes, tmp_path):
    for size in (64, 1408):
        packets = [
            [
                replace(
                    some((CBC, auth), encrypt=encrypt, text=size), key=bytes(key_bytes), derive_iv=encrypt
                )
                for _ in range(6)
            ]
            for encrypt in (True, False)
        ]
        for packet in packets[1]:
            seal(packet)
        outcomes = run(tmp_path, packets)
        check(packets, outcomes)
        blocks = -(-(8 + 16 + size + 9) // 64) + 1
        for made in outcomes:
            assert clocks_of_a_packet(made) <= blocks * block + 32


def clocks_of_a_packet(outcomes) -> float:
    """Clocks between results of one context, where it has settled."""
    times = [outcome.clocks["result"] for outcome in outcomes[1:-1]]
    return (times[-1] - times[0]) / (len(times) - 1)
