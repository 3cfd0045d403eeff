# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""All modules together: two peers agree, and tshark, which knows the keys, reads along."""

import subprocess
from ipaddress import ip_address

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from spigate.firmware_py.captures import pcap
from spigate.firmware_py.ike.crypto import decryption_table
from spigate.firmware_py.ike.crypto.proposals import parse, suite_of
from spigate.firmware_py.ike.wire.errors import AuthenticationFailed
from spigate.firmware_py.ike.wire.registry import ProtocolId
from spigate.firmware_py.ipsec.sa import AUTHS, CIPHERS, Auth, Sa
from spigate.hdl.contract.enums import Direction, Mode
from spigate.sim.build import need
from tests.firmware_py.ike.handshake import OURS, handshake
from tests.firmware_py.ike.messages import SPI_I, SPI_R

SUITES = [
    "aes256gcm16-prfsha384-ecp384",
    "aes128gcm8-prfsha256-curve25519",
    "aes256gcm12-prfsha512-modp2048",
    "aes128-sha1-modp2048",
    "aes256-sha256-ecp256",
    "aes192-sha384-ecp521",
    "aes256-sha512-modp3072",
    "aes128ccm8-prfsha256-ecp256",
    "aes256ccm16-prfsha256-ecp256",
]


@pytest.mark.parametrize(
    "words",
    [
        *SUITES,
        "chacha20poly1305-prfsha256-curve25519",
        "aes256gcm16-prfsha384-ecp384-ke1_mlkem768",
        "aes128gcm16-prfsha256-curve25519-ke1_mlkem512",
        "aes256-sha256-modp4096-ke1_mlkem1024-ke2_curve25519",
    ],
)
@pytest.mark.parametrize("fragment_bytes", [None, 576])
def test_two_peers_agree(words, fragment_bytes):
    result = handshake(words, "aes256gcm16-esn", fragment_bytes=fragment_bytes)
    assert str(result.suite) == str(suite_of(parse(words, ProtocolId.IKE)))
    assert result.traffic == OURS
    assert result.child.esn
    assert result.child_keys.initiator != result.child_keys.responder
    if fragment_bytes:
        assert max(map(len, result.datagrams[2:])) <= fragment_bytes


def test_with_signatures():
    keys = ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()
    assert handshake(SUITES[0], "aes128-sha256", keys_of=keys).traffic == OURS


def test_with_another_secret():
    with pytest.raises(AuthenticationFailed, match="pre-shared key"):
        handshake(SUITES[0], "aes128-sha256", peer_secret=b"Secret")


@pytest.mark.parametrize(
    "words",
    [
        "aes128gcm16",
        "aes256ccm8",
        "chacha20poly1305",
        "aes192-sha384",
        "aes256ctr-sha512",
        "null-sha1",
        "aes128gmac",
    ],
)
def test_the_child_s_keys_are_an_sa_s(words):
    result = handshake(SUITES[1], words)
    child, keys = result.child, result.child_keys.initiator
    sa = Sa(
        direction=Direction.INBOUND,
        spi=0x101,
        source=ip_address("192.0.2.1"),
        destination=ip_address("192.0.2.2"),
        mode=Mode.TUNNEL,
        cipher=child.cipher,
        key=keys.key,
        salt=keys.salt,
        icv_bytes=child.icv_bytes,
        auth=child.auth,
        auth_key=keys.auth_key,
        esn=child.esn,
        selectors=result.traffic[0],
    )
    assert len(sa.key) in CIPHERS[sa.cipher].keys
    assert sa.auth == Auth.NONE or len(sa.auth_key) == AUTHS[sa.auth].key


def _frame(datagram: bytes) -> bytes:
    udp = (500).to_bytes(2) * 2 + (8 + len(datagram)).to_bytes(2) + bytes(2) + datagram
    ip = b"\x45\0" + (20 + len(udp)).to_bytes(2) + bytes.fromhex("00004000 40110000 c0000201 c0000202") + udp
    return bytes(12) + b"\x08\0" + ip


def _tshark(tmp_path, datagrams: list[bytes], table: str) -> list[str]:
    """What tshark says of each datagram, in full."""
    file = tmp_path / "ike.pcap"
    pcap.write(file, [pcap.Captured(at, _frame(each)) for at, each in enumerate(datagrams)])
    done = subprocess.run(
        [
            need("tshark", "tshark", "This test"),
            "-r",
            file,
            "-V",
            "-O",
            "isakmp",
            "-o",
            f"uat:ikev2_decryption_table:{table}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split("\nFrame ")


@pytest.mark.parametrize("words", SUITES)
def test_tshark_reads_along(tmp_path, words):
    result = handshake(words, "aes256gcm16-esn")
    packets = _tshark(
        tmp_path, result.datagrams, decryption_table.line(result.suite, result.keys, SPI_I, SPI_R)
    )
    assert len(packets) == 4
    for packet, kind in zip(packets, ("IKE_SA_INIT", "IKE_SA_INIT", "IKE_AUTH", "IKE_AUTH"), strict=True):
        assert f"Exchange type: {kind}" in packet
        assert "Malformed" not in packet
    for packet, name in zip(packets[2:], ("initiator.example", "responder.example"), strict=True):
        assert packet.count("[correct]") == 1
        assert f"ID_FQDN: {name}" in packet
        for line in (
            "Starting Addr: 10.1.0.0",
            "Ending Addr: 10.2.255.255",
            "Shared Key Message Integrity Code",
            "AES-GCM with a 16 octet ICV",
            "Extended Sequence Numbers",
        ):
            assert line in packet


def test_tshark_would_say_if_it_could_not_read(tmp_path):
    """The check above can fail: with the keys of another SA the ICV is called wrong."""
    result, other = handshake(SUITES[4], "aes256gcm16"), handshake(SUITES[4], "aes256gcm16")
    packets = _tshark(
        tmp_path, result.datagrams, decryption_table.line(other.suite, other.keys, SPI_I, SPI_R)
    )
    assert "[incorrect" in packets[2]
    assert "initiator.example" not in packets[2]


def test_tshark_puts_fragments_together(tmp_path):
    result = handshake(SUITES[0], "aes256gcm16-aes128gcm16-esn-noesn", fragment_bytes=150)
    assert len(result.datagrams) > 4
    packets = _tshark(
        tmp_path, result.datagrams, decryption_table.line(result.suite, result.keys, SPI_I, SPI_R)
    )
    assert all("[correct]" in each for each in packets[2:])
    assert sum("ID_FQDN: initiator.example" in each for each in packets) == 1
    assert sum("ID_FQDN: responder.example" in each for each in packets) == 1


def test_no_line_for_what_wireshark_does_not_know():
    result = handshake("chacha20poly1305-prfsha256-curve25519", "aes256gcm16")
    assert decryption_table.line(result.suite, result.keys, SPI_I, SPI_R) is None
