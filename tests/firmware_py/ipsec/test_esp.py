# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""ESP in software against the RFCs' packets, scapy, and each rule of DESIGN's table of bad input."""

import hmac
import random
import struct
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP, SecurityAssociation

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.packet import Refused, checksum, rewrite
from spigate.firmware_py.ipsec.sa import AUTHS, CIPHERS, Auth, Cipher, Lifetime, Sa, Selectors
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.hdl.contract.enums import Df, Direction, Mode, Reason
from tests.rfc6040 import DECAPSULATION, ENCAPSULATION

# name: cipher and key bytes, HMAC, and what scapy calls them (None where it does not know them)
SUITES = {
    "null-sha1": (Cipher.NULL, 0, Auth.HMAC_SHA1_96, "NULL", "HMAC-SHA1-96"),
    "null-sha256": (Cipher.NULL, 0, Auth.HMAC_SHA256_128, "NULL", "SHA2-256-128"),
    "cbc128-sha1": (Cipher.AES_CBC, 16, Auth.HMAC_SHA1_96, "AES-CBC", "HMAC-SHA1-96"),
    "cbc192-sha256": (Cipher.AES_CBC, 24, Auth.HMAC_SHA256_128, "AES-CBC", "SHA2-256-128"),
    "cbc256-sha256": (Cipher.AES_CBC, 32, Auth.HMAC_SHA256_128, "AES-CBC", "SHA2-256-128"),
    "cbc256-sha512": (Cipher.AES_CBC, 32, Auth.HMAC_SHA512_256, "AES-CBC", "SHA2-512-256"),
    "ctr128-sha384": (Cipher.AES_CTR, 16, Auth.HMAC_SHA384_192, "AES-CTR", "SHA2-384-192"),
    "gcm128": (Cipher.AES_GCM, 16, Auth.NONE, "AES-GCM", "NULL"),
    "gcm192": (Cipher.AES_GCM, 24, Auth.NONE, "AES-GCM", "NULL"),
    "gcm256": (Cipher.AES_GCM, 32, Auth.NONE, "AES-GCM", "NULL"),
    "ccm128": (Cipher.AES_CCM, 16, Auth.NONE, "AES-CCM", "NULL"),
    "chapoly": (Cipher.CHACHA20_POLY1305, 32, Auth.NONE, "CHACHA20-POLY1305", "NULL"),
    "gmac256": (Cipher.AES_GMAC, 32, Auth.NONE, None, None),
}
PEER, SELF = ip_address("192.0.2.1"), ip_address("192.0.2.2")


def make(suite, direction=Direction.INBOUND, mode=Mode.TUNNEL, **changes):
    """The SA from the peer to here, seen from either end."""
    cipher, key, auth, _, _ = SUITES[suite]
    source = random.Random(suite)
    form = CIPHERS[cipher]
    return Sa(
        **{
            "direction": direction,
            "spi": 0x1234,
            "source": PEER,
            "destination": SELF,
            "mode": mode,
            "cipher": cipher,
            "key": source.randbytes(key),
            "salt": source.randbytes(form.salt),
            "icv_bytes": form.icvs[-1] if form.icvs else 0,
            "auth": auth,
            "auth_key": source.randbytes(AUTHS[auth].key) if auth != Auth.NONE else b"",
            **changes,
        }
    )


def both(suite, mode=Mode.TUNNEL, **changes):
    """A sender and a receiver."""
    ends = (Direction.OUTBOUND, Direction.INBOUND)
    return tuple(SoftSa(make(suite, direction, mode, **changes)) for direction in ends)


def packet(size=100, ttl=64, tos=0, flags=0):
    return bytes(
        IP(src="10.1.0.10", dst="10.2.0.10", ttl=ttl, tos=tos, flags=flags, id=7)
        / UDP(sport=1, dport=2)
        / random.Random(size).randbytes(size)
    )


def scapy_sa(suite, mode):
    sa = make(suite)
    _, _, _, encryption, hmac_name = SUITES[suite]
    return SecurityAssociation(
        ESP,
        sa.spi,
        crypt_algo=encryption,
        crypt_key=sa.key + sa.salt,
        crypt_icv_size=sa.icv_bytes or None,
        auth_algo=hmac_name,
        auth_key=sa.auth_key,
        tunnel_header=IP(src=str(PEER), dst=str(SELF)) if mode == Mode.TUNNEL else None,
    )


def refused(reason):
    return pytest.raises(Refused, match=f"^{reason.name.lower()}$")


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("suite", [name for name, entry in SUITES.items() if entry[3]])
def test_agrees_with_scapy_in_both_directions(suite, mode):
    for size in [*range(0, 70), 1000, 1400]:
        plain = packet(size)
        if mode == Mode.TRANSPORT:
            plain = bytes(IP(src=str(PEER), dst=str(SELF), ttl=9) / UDP() / bytes(size))
        sender, receiver = both(suite, mode)
        assert bytes(scapy_sa(suite, mode).decrypt(IP(sender.encapsulate(plain)))) == plain
        if suite != "cbc256-sha512":  # scapy's own sequence numbers begin at 1 too
            assert receiver.decapsulate(bytes(scapy_sa(suite, mode).encrypt(IP(plain)))) == plain


@pytest.mark.parametrize("esn", [False, True])
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("suite", SUITES)
def test_what_one_end_seals_the_other_opens(suite, mode, esn):
    sender, receiver = both(suite, mode, esn=esn, sequence=0xFFFF_FFF0 if esn else 0)
    for size in range(0, 40):
        plain = packet(size)
        sealed = sender.encapsulate(plain)
        assert len(sealed) % 4 == 0 and not checksum(sealed[:20])
        assert receiver.decapsulate(sealed) == plain
    assert receiver.state.packets == sender.state.packets == 40
    assert (
        receiver.state.bytes
        == sender.state.bytes
        == sum((28 if mode == Mode.TUNNEL else 8) + n for n in range(40))
    )


def test_opens_the_packet_of_rfc_3602_case_5():
    """Its ICV is ours: the RFC's example has none."""
    key = bytes.fromhex("90d382b410eeba7ad938c46cec1a82bf")
    header = bytes.fromhex("4500007c08f200004032f9a5c0a87b03c0a87b64")
    sealed = bytes.fromhex(
        "0000432100000001e96e8c08ab465763fd098d45dd3ff893f663c25d325c18c6"
        "a9453e194e120849a4870b66cc6b9965330013b4898dc856a4699e523a55db080b59ec3a8e4b7e52775b07d1db34ed9c538ab50c551b874aa269add047ad2d5913ac19b7cfbad4a6"
    )
    plain = bytes.fromhex(
        "4500005408f200004001f9fec0a87b03c0a87b64"
        "08000ebda70a00008e9c083db95b070008090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
        "202122232425262728292a2b2c2d2e2f3031323334353637"
    )
    assert not checksum(header), "the header is the RFC's"
    icv = hmac.digest(bytes(20), sealed, "sha1")[:12]
    header = header[:2] + (0x7C + 12).to_bytes(2) + header[4:10] + bytes(2) + header[12:]
    header = header[:10] + checksum(header).to_bytes(2) + header[12:]
    sa = Sa(
        direction=Direction.INBOUND,
        spi=0x4321,
        source=ip_address("192.168.123.3"),
        destination=ip_address("192.168.123.100"),
        mode=Mode.TRANSPORT,
        cipher=Cipher.AES_CBC,
        key=key,
        auth=Auth.HMAC_SHA1_96,
        auth_key=bytes(20),
    )
    assert SoftSa(sa).decapsulate(header + sealed + icv) == plain


def test_gcm_nonce_is_the_sequence_number_and_cbc_iv_its_encryption():
    sender, _ = both("gcm128", sequence=41)
    assert sender.encapsulate(packet())[28:36] == (42).to_bytes(8)
    first, second = (both("cbc128-sha1", sequence=n)[0].encapsulate(packet())[28:44] for n in (1, 2))
    assert first != second and first != (2).to_bytes(16)


@pytest.mark.parametrize(
    ("df", "inside", "outside"),
    [(Df.COPY, "DF", 0x4000), (Df.COPY, 0, 0), (Df.SET, 0, 0x4000), (Df.CLEAR, "DF", 0)],
)
def test_outer_header(df, inside, outside):
    sender, _ = both("gcm128", df=df, outer_ttl=77)
    outer = sender.encapsulate(packet(tos=0xB9, flags=inside))
    assert (outer[1], int.from_bytes(outer[6:8]), outer[8], outer[9]) == (0xB9, outside, 77, 50)
    assert (outer[12:16], outer[16:20]) == (PEER.packed, SELF.packed)
    sender, _ = both("gcm128", copy_tos=False, outer_tos=0x20)
    assert sender.encapsulate(packet(tos=0xB9))[1] == 0x20


@pytest.mark.parametrize(("inside", "outside"), DECAPSULATION)
def test_congestion_experienced_reaches_the_inner_header(inside, outside):
    sender, receiver = both("gcm128")
    sealed, after = sender.encapsulate(packet(tos=0xB8 | inside)), DECAPSULATION[inside, outside]
    assert sealed[1] & 3 == ENCAPSULATION[inside]
    if after is None:
        with refused(Reason.MALFORMED):
            receiver.decapsulate(marked(sealed, outside))
    else:
        plain = receiver.decapsulate(marked(sealed, outside))
        assert plain[1] == 0xB8 | after and not checksum(plain[:20])


def marked(sealed, tos):
    return rewrite(sealed, 20, tos=tos)


def test_time_to_live_counts_down_where_a_router_stands():
    sender, receiver = both("cbc128-sha1")
    plain = receiver.decapsulate(sender.encapsulate(packet(ttl=9), decrement_ttl=True))
    assert plain[8] == 8 and not checksum(plain[:20])
    with refused(Reason.TTL_EXPIRED):
        sender.encapsulate(packet(ttl=1), decrement_ttl=True)


@pytest.mark.parametrize("suite", SUITES)
def test_every_damaged_bit_is_found(suite):
    sender, receiver = both(suite)
    sealed = sender.encapsulate(packet(20))
    for bit in range(8 * 24, 8 * len(sealed)):
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Refused) as caught:
            receiver.decapsulate(bytes(damaged))
        # A damaged sequence number may fall outside the window, which is looked at first.
        assert caught.value.reason in ((Reason.ICV, Reason.REPLAY) if bit < 8 * 28 else (Reason.ICV,))
    assert receiver.state.packets == 0 and receiver.state.sequence == 0
    receiver.decapsulate(sealed)


def test_replayed_and_old_packets_age_nothing():
    sender, receiver = both("gcm128")
    sealed = [sender.encapsulate(packet()) for _ in range(100)]
    receiver.decapsulate(sealed[0])
    receiver.decapsulate(sealed[80])
    state = receiver.state
    for again in (0, 80, 16):
        with refused(Reason.REPLAY):
            receiver.decapsulate(sealed[again])
    assert receiver.state == state
    receiver.decapsulate(sealed[17])


def test_sequence_number_zero_is_never_fresh():
    sender, receiver = both("null-sha1")
    sender._window.sequence = -1
    with refused(Reason.REPLAY):
        receiver.decapsulate(sender.encapsulate(packet()))


def test_stops_before_the_sequence_number_wraps():
    sender, _ = both("gcm128", sequence=0xFFFF_FFFE)
    sender.encapsulate(packet())
    for _ in range(2):
        with refused(Reason.SEQUENCE_OVERFLOW):
            sender.encapsulate(packet())
    assert sender.state.sequence == 0xFFFF_FFFF


def sealed_text(text, suite="cbc128-sha1", mode=Mode.TUNNEL):
    """An ESP packet whose decrypted text is ``text``."""
    sender, receiver = both(suite, mode)
    header = struct.pack(">II", 0x1234, 1)
    iv = bytes(CIPHERS[sender.sa.cipher].iv)
    body = header + iv + sender._protocol._transform.seal(header, b"", iv, text)
    outer = bytes(IP(src=str(PEER), dst=str(SELF), proto=50) / body)
    return receiver, outer


INNER = packet(2)  # 30 bytes: with two bytes of trailer, two blocks


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (INNER + b"\0\4", None),
        (INNER + bytes(range(1, 17)) + b"\x10\4", None),
        (INNER + bytes(range(16)) + b"\x10\4", Reason.PADDING),
        (INNER + b"\1\4", Reason.PADDING),
        (INNER + b"\0\x05", Reason.PADDING),
        (INNER + b"\0\x29", Reason.MALFORMED),
        (INNER + b"\0\x3b", Reason.DUMMY),
        (INNER + b"\xff\4", Reason.PADDING),
        (bytes(30) + b"\x1f\4", Reason.PADDING),
        (bytes(30) + b"\0\4", Reason.MALFORMED),
        (INNER[:-1] + bytes(1) + b"\0\4", None),
        (bytes([0x46]) + INNER[1:] + b"\0\4", Reason.MALFORMED),
        (INNER[:10] + b"\0\0" + INNER[12:] + b"\0\4", Reason.MALFORMED),
    ],
)
def test_what_is_inside_must_be_sound(text, reason):
    receiver, outer = sealed_text(text)
    if reason is None:
        assert len(receiver.decapsulate(outer)) == 30
        return
    with refused(reason):
        receiver.decapsulate(outer)
    assert receiver.state.sequence == 1, "it was authentic: the window moves (RFC 4303 3.4.3)"


def test_traffic_flow_confidentiality_padding_is_cut_off():
    receiver, outer = sealed_text(INNER + bytes(16) + b"\0\4")
    assert receiver.decapsulate(outer) == INNER


@pytest.mark.parametrize("size", [0, 8, 23, 24, 39, 40, 41, 55])
def test_text_must_be_whole_blocks(size):
    _, receiver = both("cbc128-sha1")
    with refused(Reason.MALFORMED):
        receiver.decapsulate(bytes(IP(src=str(PEER), dst=str(SELF), proto=50) / bytes(size)))


def test_selectors_are_checked_after_decryption():
    sender, _ = both("gcm128")
    hosts = Selectors(ip_network("10.1.0.0/24"), ip_network("10.2.0.10/32"), 17, (1, 1), (2, 2))
    for permitted, fits in (
        ([hosts], True),
        ([replace(hosts, protocol=6)], False),
        ([], False),
        ([replace(hosts, destination_ports=(3, 9))], False),
        ([replace(hosts, source=ip_network("10.9.0.0/24")), hosts], True),
    ):
        receiver = SoftSa(make("gcm128"), permitted)
        if fits:
            receiver.decapsulate(sender.encapsulate(packet()))
        else:
            with refused(Reason.POLICY):
                receiver.decapsulate(sender.encapsulate(packet()))
            assert receiver.state.packets == 1, "it was authentic and sound: it counts"


def test_lifetimes():
    limits = {"soft": Lifetime(packets=2, bytes=300), "hard": Lifetime(packets=4)}
    sender, receiver = both("gcm128", **limits)
    reached = []
    sealed = [SoftSa(make("gcm128", Direction.OUTBOUND, sequence=n)).encapsulate(packet()) for n in range(6)]
    for one in sealed[:4]:
        receiver.decapsulate(one)
        reached.append(receiver.soft_reached)
    assert reached == [False, True, True, False], "the second packet, then the 300th byte, each once"
    with refused(Reason.LIFETIME):
        receiver.decapsulate(sealed[4])
    assert receiver.state.packets == 4
    for _ in range(4):
        sender.encapsulate(packet())
    with refused(Reason.LIFETIME):
        sender.encapsulate(packet())
    sender, _ = both("gcm128", hard=Lifetime(bytes=127))
    with refused(Reason.LIFETIME):
        sender.encapsulate(packet())


def test_too_big_a_packet_is_not_encapsulated():
    sender, _ = both("gcm128", mtu=128)
    sender.encapsulate(packet(100))
    with refused(Reason.TOO_BIG):
        sender.encapsulate(packet(101))


def test_an_sa_works_in_one_direction():
    sender, receiver = both("gcm128")
    with pytest.raises(InputError, match="must be outbound, not inbound ESP SA 0x00001234"):
        receiver.encapsulate(packet())
    with pytest.raises(InputError, match="must be inbound"):
        sender.decapsulate(packet())


@settings(max_examples=300)
@given(st.binary(max_size=200), st.sampled_from(sorted(SUITES)))
def test_only_refusals_escape_from_any_bytes(data, suite):
    sender, receiver = both(suite)
    for work in (sender.encapsulate, receiver.decapsulate):
        try:
            work(data)
        except Refused:
            pass


@settings(max_examples=200)
@given(st.integers(20, 150), st.integers(0, 255), st.sampled_from(sorted(SUITES)))
def test_nothing_of_a_mutated_packet_appears(at, value, suite):
    sender, receiver = both(suite)
    sealed = bytearray(sender.encapsulate(packet(60)))
    at %= len(sealed)
    changed = sealed[at] != value
    sealed[at] = value
    try:
        assert receiver.decapsulate(bytes(sealed)) == packet(60)
        assert not changed
    except Refused:
        assert changed
