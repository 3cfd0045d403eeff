# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""ML-KEM in plain Python: the known answers of all three sizes, and `cryptography` on the other side."""

import os
from dataclasses import replace
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey

from spigate.firmware_py.ike.crypto.mlkem import ML_KEM_512, Parameters, PrivateKey, PublicKey

VECTORS = Path(cryptography_vectors.__file__).parent / "asymmetric" / "MLKEM"
SIZES = {512: ML_KEM_512, 768: Parameters(3, 2, 10, 4), 1024: Parameters(4, 2, 11, 5)}


def answers(size: int, count: int):
    """Cases of a file of known answers: seeds d and z, keys, message, ciphertext and secret, and a wrong
    ciphertext.
    """
    case: dict[str, bytes] = {}
    with (VECTORS / f"kat_MLKEM_{size}.rsp").open() as file:
        for line in file:
            name, _, value = line.strip().partition(" = ")
            if name == "count":
                if int(value) == count:
                    return
                case = {}
            elif value:
                case[name] = bytes.fromhex(value)
            if name == "ss":
                yield case


@pytest.mark.parametrize(("size", "count"), [(512, 100), (768, 10), (1024, 10)])
def test_known_answers(size, count):
    tried = 0
    for case in answers(size, count):
        key = PrivateKey.from_seed_bytes(case["d"] + case["z"], SIZES[size])
        assert key.public_key().public_bytes_raw() == case["pk"]
        assert PublicKey.from_public_bytes(case["pk"], SIZES[size]).encapsulate(case["msg"]) == (
            case["ss"],
            case["ct"],
        )
        assert key.decapsulate(case["ct"]) == case["ss"]
        assert key.decapsulate(case["ct_n"]) == case["ss_n"]
        tried += 1
    assert tried == count


def test_with_cryptography_on_the_other_side():
    seed = os.urandom(64)
    ours, theirs = PrivateKey.from_seed_bytes(seed, SIZES[768]), MLKEM768PrivateKey.from_seed_bytes(seed)
    public = theirs.public_key().public_bytes_raw()
    assert ours.public_key().public_bytes_raw() == public
    secret, ciphertext = MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    assert ours.decapsulate(ciphertext) == secret
    secret, ciphertext = PublicKey.from_public_bytes(public, SIZES[768]).encapsulate()
    assert theirs.decapsulate(ciphertext) == secret
    for wrong in (bytes(1088), ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])):
        assert ours.decapsulate(wrong) == theirs.decapsulate(wrong) != secret


def test_fresh_keys_and_secrets():
    key = PrivateKey.generate()
    assert key != PrivateKey.generate()
    (one, first), (two, second) = (key.public_key().encapsulate() for _ in range(2))
    assert (key.decapsulate(first), key.decapsulate(second)) == (one, two)
    assert one != two
    assert (len(key.public.raw), len(first), len(one)) == (800, 768, 32)


def test_keys_that_are_refused():
    """FIPS 203 7.2."""
    good = PrivateKey.generate().public_key().raw
    first_is_q = bytes([0x01, good[1] & 0xF0 | 0x0D])  # 3329 in the lower 12 bits
    for wrong in (b"", good[:-1], good + b"\0", b"\xff\xff" + good[2:], first_is_q + good[2:]):
        with pytest.raises(ValueError, match="no encapsulation key"):
            PublicKey.from_public_bytes(wrong)
    assert PublicKey.from_public_bytes(good).raw == good


def test_nothing_secret_in_a_repr():
    key = replace(PrivateKey.generate(), rejection=b"hidden", secret=([777777],))
    assert "hidden" not in repr(key)
    assert "777777" not in repr(key)
