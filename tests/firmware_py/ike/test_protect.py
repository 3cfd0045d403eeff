# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""SK and SKF: every cipher against `cryptography` alone, fragments in any order, and what must be dropped."""

import hashlib
import hmac
import random

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from spigate.firmware_py.ike.crypto.keys import IkeKeys, ike_keys
from spigate.firmware_py.ike.crypto.proposals import Suite, parse, suite_of
from spigate.firmware_py.ike.crypto.protect import Limits, Protection, int_auth_octets
from spigate.firmware_py.ike.wire.errors import InvalidSyntax, NotAuthentic
from spigate.firmware_py.ike.wire.message import HEADER, Header
from spigate.firmware_py.ike.wire.payloads import Nonce, Unknown, Vendor, pack_chain
from spigate.firmware_py.ike.wire.registry import ExchangeType, PayloadType, ProtocolId
from tests.firmware_py.ike.messages import EVERY_PAYLOAD, SPI_I, SPI_R, message

WORDS = [
    f"aes{bits}{mode}{icv}-prfsha256-ecp256"
    for bits in (128, 256)
    for mode in ("gcm", "ccm")
    for icv in (8, 12, 16)
]
WORDS += [
    f"aes{bits}-{auth}-ecp256" for bits in (128, 192, 256) for auth in ("sha1", "sha256", "sha384", "sha512")
]
WORDS += ["chacha20poly1305-prfsha512-curve25519"]
GCM = WORDS[5]


def make(words: str = GCM, **limits: int) -> tuple[Protection, Protection, Suite, IkeKeys]:
    suite = suite_of(parse(words, ProtocolId.IKE))
    keys = ike_keys(suite, b"seed", bytes(16), bytes(16), SPI_I, SPI_R)
    return (
        Protection(suite, keys, initiator=True),
        Protection(suite, keys, initiator=False, limits=Limits(**limits)),
        suite,
        keys,
    )


def of_length(length: int, message_id: int = 1):
    """A message whose payloads take ``length`` bytes."""
    return message(
        Vendor(random.Random(length).randbytes(length - 4)),
        exchange=ExchangeType.IKE_AUTH,
        message_id=message_id,
    )


def unprotect(words: str, suite: Suite, keys: IkeKeys, datagram: bytes, header: int) -> bytes:
    """RFC 7296 3.14, RFC 5282 and RFC 7634 done by hand; ``header``: bytes of the SK or SKF header."""
    start = HEADER + header
    size = suite.key_bits // 8
    key, salt = keys.ei[:size], keys.ei[size:]
    if "sha" in words.split("-")[1] and not words.split("-")[1].startswith("prf"):
        name, icv = {
            "sha1": ("sha1", 12),
            "sha256": ("sha256", 16),
            "sha384": ("sha384", 24),
            "sha512": ("sha512", 32),
        }[words.split("-")[1]]
        assert hmac.new(keys.ai, datagram[:-icv], getattr(hashlib, name)).digest()[:icv] == datagram[-icv:]
        decryptor = Cipher(algorithms.AES(key), modes.CBC(datagram[start : start + 16])).decryptor()
        text = decryptor.update(datagram[start + 16 : -icv]) + decryptor.finalize()
    else:
        nonce, sealed, icv = salt + datagram[start : start + 8], datagram[start + 8 :], suite.icv_bytes
        if "gcm" in words and icv < 16:
            whole = AESGCM(key).encrypt(
                nonce, bytes(len(sealed) - icv), None
            )  # its key stream; the tag is compared below
            text = bytes(a ^ b for a, b in zip(sealed[:-icv], whole, strict=False))
            again = AESGCM(key).encrypt(nonce, text, datagram[:start])
            assert again[: len(text) + icv] == sealed
        else:
            aead = {"gcm": AESGCM, "ccm": lambda key: AESCCM(key, icv), "20p": ChaCha20Poly1305}[
                next(mode for mode in ("gcm", "ccm", "20p") if mode in words)
            ]
            text = aead(key).decrypt(nonce, sealed, datagram[:start])
    return text[: len(text) - 1 - text[-1]]


@pytest.mark.parametrize("words", WORDS)
def test_sealed_as_the_rfcs_say_and_opened(words):
    initiator, responder, suite, keys = make(words)
    for length in (4, 5, 15, 16, 17, 30, 31, 32, 33, 1000):
        original = of_length(length)
        (datagram,) = initiator.seal(original)
        assert Header.parse(datagram).first_payload == PayloadType.SK
        assert (datagram[HEADER], datagram[HEADER + 1]) == (PayloadType.VENDOR, 0)
        assert unprotect(words, suite, keys, datagram, 4) == pack_chain(original.payloads)[1]
        assert responder.open(datagram) == original
        assert responder.authentic(datagram) == 1
        for fragment in initiator.seal(original, 120) if length > 100 else ():
            assert unprotect(words, suite, keys, fragment, 8)


@pytest.mark.parametrize("words", [GCM, "aes256-sha256-ecp256"])
def test_every_bit_is_authenticated(words):
    initiator, responder, *_ = make(words)
    for datagram in (*initiator.seal(of_length(40)), initiator.seal(of_length(300), 200)[0]):
        for bit in range(8 * len(datagram)):
            wrong = bytearray(datagram)
            wrong[bit // 8] ^= 1 << bit % 8
            with pytest.raises(NotAuthentic):
                responder.open(bytes(wrong))
        for length in range(len(datagram)):
            with pytest.raises(NotAuthentic):
                responder.open(datagram[:24] + length.to_bytes(4) + datagram[28:length])
        responder.open(datagram)


def test_what_one_sends_comes_back_to_it_in_vain():
    initiator, responder, *_ = make()
    (datagram,) = initiator.seal(of_length(40))
    with pytest.raises(NotAuthentic, match="no protected message of the peer's"):
        initiator.open(datagram)
    answer = message(Nonce(bytes(16)), initiator=False, response=True)
    (datagram,) = responder.seal(answer)
    assert initiator.open(datagram) == answer


@pytest.mark.parametrize("words", WORDS)
def test_an_iv_never_comes_twice(words):
    initiator, *_ = make(words)
    size = 16 if words.split("-")[1].startswith("sha") else 8
    datagrams = [each for _ in range(100) for each in initiator.seal(of_length(300), 200)]
    assert len({each[36 : 36 + size] for each in datagrams}) == len(datagrams) > 200


@pytest.mark.parametrize(
    "words", [GCM, "aes128-sha1-ecp256", "aes256-sha512-ecp256", "chacha20poly1305-prfsha512-ecp256"]
)
@pytest.mark.parametrize("limit", [120, 576, 1280, 1500])
def test_fragments(words, limit):
    initiator, responder, *_ = make(words)
    rng = random.Random(limit)
    for message_id, length in enumerate(
        (4, limit - 100, *range(limit - 70, limit - 20, 3), 2 * limit, 3 * limit), 1
    ):
        original = of_length(length, message_id)
        datagrams = initiator.seal(original, limit)
        assert max(map(len, datagrams)) <= limit
        assert len(datagrams) == 1 or len(initiator.seal(original)[0]) > limit
        kinds = {Header.parse(each).first_payload for each in datagrams}
        assert kinds == {PayloadType.SK if len(datagrams) == 1 else PayloadType.SKF}
        if len(datagrams) > 1:  # RFC 7383 2.5: only the first says what is inside
            assert [each[HEADER] for each in datagrams] == [PayloadType.VENDOR] + [0] * (len(datagrams) - 1)
            assert {responder.authentic(each) for each in datagrams} == set(range(1, len(datagrams) + 1))
        rng.shuffle(datagrams)
        *before, opened = [responder.open(each) for each in datagrams]
        assert set(before) <= {None}
        assert opened == original
        assert opened.covered == int_auth_octets(original)


def test_fragments_again_and_of_another_size():
    initiator, responder, *_ = make()
    original = of_length(900)
    large, small = initiator.seal(original, 400), initiator.seal(original, 200)
    assert len(large) < len(small)
    assert responder.open(large[0]) is None
    with pytest.raises(NotAuthentic, match="came before"):
        responder.open(large[0])
    assert responder.open(small[0]) is None  # RFC 7383 2.6: more fragments win
    with pytest.raises(NotAuthentic, match="came before"):
        responder.open(large[1])
    assert [responder.open(each) for each in small[1:]][-1] == original
    assert responder.open(large[0]) is None
    responder.forget_fragments()
    assert [responder.open(each) for each in large][-1] == original


def test_another_message_takes_the_place_of_one_that_never_became_whole():
    initiator, responder, *_ = make()
    first, second = initiator.seal(of_length(900), 400), initiator.seal(of_length(800, 2), 400)
    assert responder.open(first[0]) is None
    assert [responder.open(each) for each in second][-1] == of_length(800, 2)


def test_reassembly_is_bounded():
    initiator, responder, *_ = make(fragments=4, bytes=600)
    for datagram in initiator.seal(of_length(900), 200):
        with pytest.raises(NotAuthentic, match="where 4 are allowed"):
            responder.open(datagram)
    datagrams = initiator.seal(of_length(900), 400)
    assert responder.open(datagrams[0]) is None
    with pytest.raises(NotAuthentic, match="more than 600 bytes"):
        responder.open(datagrams[1])
    assert responder._partial is None


def test_numbers_of_fragments_that_cannot_be():
    initiator, responder, *_ = make()
    for number, total in ((0, 1), (2, 1), (0, 0), (1, 0)):
        own_header = number.to_bytes(2) + total.to_bytes(2)
        with pytest.raises(NotAuthentic, match=f"fragment {number} of {total}"):
            responder.open(initiator._seal(of_length(40), PayloadType.SKF, own_header, 43, b"text"))


def test_wrong_contents_are_said_to_be_the_peer_s():
    initiator, responder, *_ = make()
    with pytest.raises(InvalidSyntax):
        responder.open(initiator._seal(of_length(40), PayloadType.SK, b"", PayloadType.NONCE, b"text"))


def test_padding_longer_than_the_text():
    initiator, responder, *_ = make()
    covered = message().header(PayloadType.SK).pack(HEADER + 4 + 8 + 2 + 16) + bytes(
        [0, 0, 0, 4 + 8 + 2 + 16]
    )
    sealed = covered + bytes(8) + initiator._sender.seal(covered, b"", bytes(8), b"\7\2")
    with pytest.raises(InvalidSyntax, match="2 bytes of padding"):
        responder.open(sealed)
    with pytest.raises(NotAuthentic):
        responder.authentic(sealed)


def test_padding_of_any_length_is_taken():
    initiator, responder, *_ = make()
    text = pack_chain((Nonce(bytes(16)),))[1] + bytes(200) + bytes([200])
    length = 4 + 8 + len(text) + 16
    covered = (
        message().header(PayloadType.SK).pack(HEADER + length)
        + bytes([PayloadType.NONCE, 0])
        + length.to_bytes(2)
    )
    assert responder.open(covered + bytes(8) + initiator._sender.seal(covered, b"", bytes(8), text)).one(
        Nonce
    )


def test_octets_of_int_auth():
    """RFC 9242 3.3.2: lengths without IV, padding and ICV; SK, also where the message went in fragments."""
    original = message(Nonce(bytes(range(16))), exchange=ExchangeType.IKE_INTERMEDIATE, message_id=1)
    expected = (
        SPI_I
        + SPI_R
        + bytes.fromhex("2e 20 2b 08 00000001 00000034 28 00 0018 00 00 0014")
        + bytes(range(16))
    )
    assert int_auth_octets(original) == expected
    initiator, responder, *_ = make()
    assert int_auth_octets(responder.open(initiator.seal(original)[0])) == expected
    long = message(*EVERY_PAYLOAD, exchange=ExchangeType.IKE_INTERMEDIATE, message_id=1)
    opened = [responder.open(each) for each in initiator.seal(long, 300)][-1]
    assert int_auth_octets(opened) == int_auth_octets(long)
    # what the peer wrote counts, reserved bits and all
    opened = responder.open(
        initiator._seal(
            original, PayloadType.SK, b"", PayloadType.NONCE, b"\0\x7f" + pack_chain(original.payloads)[1][2:]
        )
    )
    assert int_auth_octets(opened) == expected[:33] + b"\x7f" + expected[34:]


def test_too_little_room_for_fragments():
    initiator, *_ = make()
    with pytest.raises(ValueError, match="fragment_bytes"):
        initiator.seal(of_length(100), 60)


def test_a_message_with_nothing_inside():
    initiator, responder, *_ = make()
    for each in (message(exchange=ExchangeType.INFORMATIONAL), message(Unknown(b"", payload_type=201))):
        assert responder.open(initiator.seal(each)[0]) == each
