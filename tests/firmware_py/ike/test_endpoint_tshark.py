# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""tshark, with the key log, reads all that two endpoints say in the life of a tunnel."""

import subprocess

import pytest

from spigate.firmware_py.captures import pcap
from spigate.firmware_py.ike.crypto.proposals import parse
from spigate.firmware_py.ike.engine.context import Settings
from spigate.firmware_py.ike.engine.nat import MARKER
from spigate.firmware_py.ike.wire.registry import ProtocolId
from spigate.sim.build import need
from tests.firmware_py.ike.network import Nat, child, ike, pair


def frame(datagram) -> bytes:
    udp = (
        datagram.source.port.to_bytes(2)
        + datagram.destination.port.to_bytes(2)
        + (8 + len(datagram.data)).to_bytes(2)
        + bytes(2)
        + datagram.data
    )
    ip = (
        b"\x45\0"
        + (20 + len(udp)).to_bytes(2)
        + bytes.fromhex("0000400040110000")
        + datagram.source.address.packed
        + datagram.destination.address.packed
        + udp
    )
    return bytes(12) + b"\x08\0" + ip


@pytest.mark.parametrize("nat", [False, True])
@pytest.mark.parametrize("words", ["aes256gcm16-prfsha384-ecp384", "aes128-sha256-modp2048"])
def test_the_life_of_a_tunnel(tmp_path, words, nat):
    settings = {"proposals": ike(words)}
    network, a, b = pair(
        child(),
        child(
            "ah",
            "10.3.0.0/24=10.4.0.0/24",
            protocol=ProtocolId.AH,
            proposals=(parse("sha256", ProtocolId.AH),),
        ),
        a=settings,
        b={**settings, "address": None, "local_address": None},
        settings=Settings(key_log=True),
    )
    if nat:
        Nat(network, "192.0.2.1", "198.51.100.1")
    a.initiate("b")
    network.run(5)
    a.rekey("b", "net")
    network.run(5)
    b.rekey("a")
    network.run(35)
    a.terminate("b")
    network.run(5)
    said = [each for each in network.seen if each.data != b"\xff"]
    assert {each.source.port for each in said} == ({500, 4500} if nat else {500})
    assert all(each.data[:4] == MARKER for each in said if each.source.port == 4500)
    pcap.write(tmp_path / "ike.pcap", [pcap.Captured(at, frame(each)) for at, each in enumerate(said)])
    assert len(a.key_log) == 2 and a.key_log == b.key_log
    tables = [word for line in a.key_log for word in ("-o", f"uat:ikev2_decryption_table:{line}")]
    done = subprocess.run(
        [need("tshark", "tshark", "This test"), "-r", tmp_path / "ike.pcap", "-V", "-O", "isakmp", *tables],
        capture_output=True,
        text=True,
        check=True,
    )
    packets = done.stdout.split("\nFrame ")
    assert len(packets) == len(said)
    sealed = [packet for packet in packets if "Exchange type: IKE_SA_INIT" not in packet]
    for packet in packets:
        assert "Malformed" not in packet
    for packet in sealed:
        assert packet.count("[correct]") == 1, packet
    for text, least in (
        ("Exchange type: CREATE_CHILD_SA", 6),
        ("REKEY_SA", 1),
        ("Protocol ID: IKE", 2),
        ("Traffic Selector - Initiator", 5),
        ("Exchange type: INFORMATIONAL", 6),
        ("Delete", 3),
    ):
        assert sum(text in packet for packet in packets) >= least, text
