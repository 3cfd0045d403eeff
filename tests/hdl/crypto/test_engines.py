# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""All engines by their declarations: what they declare they do; what cannot be declared is refused."""

import random
from types import SimpleNamespace

import pytest

from spigate.hdl.contract.enums import Auth, Cipher, KeySize
from spigate.hdl.contract.parameters import DEFAULT_ENGINE, ENGINES
from spigate.hdl.crypto.interface import NAMES, Algorithms, Engine, engine_named
from tests.hdl.crypto.engine_packets import check, key_bytes, random_packet, run, suites

GCM = Algorithms(frozenset({Cipher.AES_GCM}), frozenset({KeySize.AES128}), gcm_icvs=frozenset({16}))


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0, 0.3])
@pytest.mark.parametrize("name", ENGINES)
def test_does_all_that_it_declares(name, pause, tmp_path):
    """Each suite with each key size, both ways, in a random order."""
    engine, source = engine_named(name), random.Random(f"{name}{pause}")
    knows = engine.algorithms
    kinds = [
        ([suite], [size])
        for suite in suites(knows)
        for size in (key_bytes(knows) if suite[0] != Cipher.NULL else [16])
        for _ in range(4)
    ]
    packets = [
        [random_packet(source, suites=suite, keys=keys) for suite, keys in source.sample(kinds, len(kinds))]
        for _ in range(engine.contexts)
    ]
    check(packets, run(tmp_path, packets, pause=pause, engine=engine))


def test_the_default_knows_everything_that_the_register_has_a_name_for():
    assert set(engine_named(DEFAULT_ENGINE).algorithms.names) == set(NAMES)


def test_names_are_those_of_the_register():
    assert set(engine_named("gcm").algorithms.names) == {
        "cipher_aes_gcm",
        "key_aes128",
        "key_aes256",
        "gcm_icv16",
    }
    assert set(engine_named("cbc-sha256").algorithms.names) == {
        "cipher_aes_cbc",
        "key_aes128",
        "key_aes256",
        "auth_hmac_sha256_128",
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ciphers": {}}, "ciphers must be one or more, not none"),
        ({"key_sizes": {}}, "key_sizes must be given for AES, and for AES alone, not none"),
        (
            {"ciphers": {Cipher.NULL}, "auths": {Auth.HMAC_SHA1_96}, "gcm_icvs": {}},
            "key_sizes must be given for AES, and for AES alone, not AES128",
        ),
        ({"auths": {Auth.NONE}}, "auths must be without NONE, which says that there is none"),
        ({"ciphers": {Cipher.AES_CBC}, "gcm_icvs": {}}, "auths must be one or more beside AES_CBC"),
        ({"gcm_icvs": {}}, "gcm_icvs must be given for AES-GCM, and for it alone, not none"),
        ({"gcm_icvs": {8}}, "the register algorithms has no field for 'gcm_icv8'"),
    ],
)
def test_refuses_algorithms_that_do_not_go_together(given, message):
    right = {"ciphers": {Cipher.AES_GCM}, "key_sizes": {KeySize.AES128}, "gcm_icvs": {16}}
    with pytest.raises(ValueError, match=message):
        Algorithms(**{name: frozenset(members) for name, members in (right | given).items()})


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"contexts": 3}, "Wrong.contexts must be one of 1, 2, 4, not 3"),
        ({"word_bytes": 5}, "Wrong.word_bytes must be one of 4, 8, 16, not 5"),
        ({"algorithms": None}, "Wrong.algorithms must say what the engine knows"),
        ({"contexts": None}, "Wrong.contexts must be one of 1, 2, 4, not None"),
    ],
)
def test_refuses_an_engine_that_does_not_declare_itself(declared, message):
    right = {"contexts": 1, "word_bytes": 4, "algorithms": GCM}
    assert issubclass(type("Right", (Engine,), right), Engine)
    with pytest.raises(TypeError, match=message):
        type("Wrong", (Engine,), right | declared)


def test_zeros_go_through_all_that_an_engine_has():
    fullest = {name: SimpleNamespace(**engine_named(name).algorithms.fullest) for name in ENGINES}
    assert {name: (job.cipher, job.key_size, job.auth) for name, job in fullest.items()} == {
        "compact": (Cipher.AES_CBC, KeySize.AES256, Auth.HMAC_SHA256_128),
        "gcm": (Cipher.AES_GCM, KeySize.AES256, Auth.NONE),
        "gcm-small": (Cipher.AES_GCM, KeySize.AES256, Auth.NONE),
        "cbc-sha256": (Cipher.AES_CBC, KeySize.AES256, Auth.HMAC_SHA256_128),
    }


def test_an_engine_that_is_not_there_is_said():
    with pytest.raises(
        ValueError, match="engine must be one of compact, gcm, gcm-small, cbc-sha256, not 'x'"
    ):
        engine_named("x")
