# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""NIST's and Wycheproof's vectors for AES-GCM and AES-CBC through the gates of each engine that declares them."""

import itertools
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.padding import PKCS7

from spigate.hdl.contract.enums import Cipher
from spigate.hdl.contract.parameters import ENGINES
from spigate.hdl.crypto.interface import Kind, engine_named
from tests.hdl.crypto.engine_packets import Outcome, Packet, key_bytes, run
from tests.nist import nist

pytestmark = pytest.mark.slow

WYCHEPROOF = Path(__file__).resolve().parents[2] / "data" / "wycheproof"
NIST_CBC = ("GFSbox", "KeySbox", "MMT", "VarKey", "VarTxt")
NIST_GCM_SHAPES = 25
"""Pairs of lengths of text and associated data in each of NIST's files."""
OF_EACH_SHAPE = 4


def with_cipher(cipher: Cipher) -> list[str]:
    """The engines that know it."""
    return [name for name in ENGINES if cipher in engine_named(name).algorithms.ciphers]


def key_bits(engine: str) -> list[int]:
    """The sizes of the keys that it knows."""
    return [8 * size for size in key_bytes(engine_named(engine).algorithms)]


GCM_KEYS = [(engine, bits) for engine in with_cipher(Cipher.AES_GCM) for bits in key_bits(engine)]


def spread(folder: Path, engine: str, packets: list[Packet]) -> list[Outcome]:
    """Runs packets on all contexts in turn, and returns the outcomes in the order of the packets."""
    made = engine_named(engine)
    outcomes = run(folder, [packets[at :: made.contexts] for at in range(made.contexts)], engine=made)
    return [each for turn in itertools.zip_longest(*outcomes) for each in turn if each is not None]


def handed_back(outcome: Outcome) -> dict[Kind, bytes]:
    return dict(outcome.runs)


def gcm(encrypt: bool, key: str, nonce: str, associated: str, text: str, icv: str | None = None) -> Packet:
    iv = bytes.fromhex(nonce)
    return Packet(
        Cipher.AES_GCM,
        key=bytes.fromhex(key),
        encrypt=encrypt,
        salt=iv[:4],
        iv=iv[4:],
        associated=bytes.fromhex(associated),
        text=bytes.fromhex(text),
        icv=None if icv is None else bytes.fromhex(icv),
    )


def cbc(encrypt: bool, key: str, iv: str, text: str) -> Packet:
    return Packet(
        Cipher.AES_CBC,
        key=bytes.fromhex(key),
        encrypt=encrypt,
        iv=bytes.fromhex(iv),
        text=bytes.fromhex(text),
    )


def nist_gcm(path: str) -> list[dict[str, str]]:
    """Vectors of all shapes of a 96-bit IV and a 128-bit tag; of each shape that has them, some that must
    fail.
    """
    chosen, shapes = [], set()
    kept = [v for v in nist(f"GCM/{path}") if (v["IVLEN"], v["TAGLEN"]) == ("96", "128")]
    for shape, group in itertools.groupby(kept, lambda v: (v["PTLEN"], v["AADLEN"])):
        group = list(group)
        right, wrong = [v for v in group if "FAIL" not in v], [v for v in group if "FAIL" in v]
        chosen += right[:OF_EACH_SHAPE] + wrong[: OF_EACH_SHAPE // 2]
        shapes.add(shape)
    assert len(shapes) == NIST_GCM_SHAPES
    return chosen


@pytest.mark.parametrize(("engine", "bits"), GCM_KEYS)
def test_nist_gcm_encrypt(engine, bits, tmp_path):
    vectors = nist_gcm(f"gcmEncryptExtIV{bits}.rsp")
    for vector, outcome in zip(
        vectors,
        spread(tmp_path, engine, [gcm(True, v["KEY"], v["IV"], v["AAD"], v["PT"]) for v in vectors]),
        strict=True,
    ):
        made = handed_back(outcome)
        assert made.get(Kind.TEXT, b"").hex() + made[Kind.ICV].hex() == vector["CT"] + vector["TAG"], vector
        assert outcome.ok


@pytest.mark.parametrize(("engine", "bits"), GCM_KEYS)
def test_nist_gcm_decrypt(engine, bits, tmp_path):
    vectors = nist_gcm(f"gcmDecrypt{bits}.rsp")
    assert sum("FAIL" in vector for vector in vectors) >= NIST_GCM_SHAPES
    packets = [gcm(False, v["KEY"], v["IV"], v["AAD"], v["CT"], v["TAG"]) for v in vectors]
    for vector, outcome in zip(vectors, spread(tmp_path, engine, packets), strict=True):
        assert outcome.ok == ("FAIL" not in vector), vector
        if outcome.ok:
            assert handed_back(outcome).get(Kind.TEXT, b"").hex() == vector["PT"], vector


@pytest.mark.parametrize("engine", with_cipher(Cipher.AES_CBC))
def test_nist_cbc(engine, tmp_path):
    vectors = [v for name in NIST_CBC for bits in key_bits(engine) for v in nist(f"CBC/CBC{name}{bits}.rsp")]
    assert len(vectors) > 700 * len(key_bits(engine))
    names = {"ENCRYPT": ("PLAINTEXT", "CIPHERTEXT"), "DECRYPT": ("CIPHERTEXT", "PLAINTEXT")}
    packets = [
        cbc(v["direction"] == "ENCRYPT", v["KEY"], v["IV"], v[names[v["direction"]][0]]) for v in vectors
    ]
    for vector, outcome in zip(vectors, spread(tmp_path, engine, packets), strict=True):
        assert handed_back(outcome)[Kind.TEXT].hex() == vector[names[vector["direction"]][1]], vector
        assert outcome.ok


def wycheproof(file: str) -> list[tuple[dict, dict]]:
    """Pairs of group and test."""
    content = json.loads((WYCHEPROOF / file).read_text())
    return [(group, test) for group in content["testGroups"] for test in group["tests"]]


@pytest.mark.parametrize("engine", with_cipher(Cipher.AES_GCM))
def test_wycheproof_gcm(engine, tmp_path):
    tests = [
        test
        for group, test in wycheproof("aes_gcm_test.json")
        if (group["ivSize"], group["tagSize"]) == (96, 128)
    ]
    assert len(tests) == 197 and sum(test["result"] == "invalid" for test in tests) == 81
    tests = [test for test in tests if 4 * len(test["key"]) in key_bits(engine)]
    opened = spread(
        tmp_path, engine, [gcm(False, t["key"], t["iv"], t["aad"], t["ct"], t["tag"]) for t in tests]
    )
    for test, outcome in zip(tests, opened, strict=True):
        assert outcome.ok == (test["result"] == "valid"), test
        if outcome.ok:
            assert handed_back(outcome).get(Kind.TEXT, b"").hex() == test["msg"], test
    sealed = spread(tmp_path, engine, [gcm(True, t["key"], t["iv"], t["aad"], t["msg"]) for t in tests])
    for test, outcome in zip(tests, sealed, strict=True):
        made = handed_back(outcome)
        assert ((made.get(Kind.TEXT, b"").hex(), made[Kind.ICV].hex()) == (test["ct"], test["tag"])) == (
            test["result"] == "valid"
        ), test


@pytest.mark.parametrize("engine", with_cipher(Cipher.AES_CBC))
def test_wycheproof_cbc(engine, tmp_path):
    """The engine decrypts; padding is what the file is about, and is looked at here by `cryptography`."""
    tests = [test for _, test in wycheproof("aes_cbc_pkcs5_test.json")]
    assert len(tests) == 216 and sum(test["result"] == "invalid" for test in tests) == 144
    tests = [test for test in tests if 4 * len(test["key"]) in key_bits(engine)]
    for test, outcome in zip(
        tests, spread(tmp_path, engine, [cbc(False, t["key"], t["iv"], t["ct"]) for t in tests]), strict=True
    ):
        unpadder = PKCS7(128).unpadder()
        padded = handed_back(outcome).get(Kind.TEXT, b"")
        if test["result"] == "valid":
            assert (unpadder.update(padded) + unpadder.finalize()).hex() == test["msg"], test
        else:
            with pytest.raises(ValueError, match="Invalid padding bytes"):
                unpadder.update(padded) + unpadder.finalize()
    valid = [test for test in tests if test["result"] == "valid"]
    packets = []
    for test in valid:
        padder = PKCS7(128).padder()
        packets.append(
            cbc(
                True,
                test["key"],
                test["iv"],
                (padder.update(bytes.fromhex(test["msg"])) + padder.finalize()).hex(),
            )
        )
    for test, outcome in zip(valid, spread(tmp_path, engine, packets), strict=True):
        assert handed_back(outcome)[Kind.TEXT].hex() == test["ct"], test
