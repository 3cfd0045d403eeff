# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What Linux's captures demand (tests/data/captures/README.md), of the control element on a gateway in
software.
"""

import asyncio
import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP, SecurityAssociation

from spigate.firmware_py.captures import capture, pcap
from spigate.firmware_py.control.element import ControlElement
from spigate.firmware_py.control.loop import Loop, SoftPort
from spigate.firmware_py.control.settings import Miss
from spigate.firmware_py.ipsec.sa import Auth, Cipher
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.firmware_py.tables.driver import Driver
from spigate.firmware_py.tables.interface import GATEWARE, CfeSettings
from spigate.firmware_py.tables.model import SoftGateway
from spigate.firmware_py.tables.punt import InjectMode
from spigate.hdl.contract.enums import Direction, Mode, Port, Reason
from tests.firmware_py.control.network import LINUX
from tests.firmware_py.tables.registers import RegisterGateway
from tests.firmware_py.tables.test_driver import registers

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
SOFTWARE = [
    "esp-tunnel-cbc256-sha512",
    "esp-tunnel-chapoly",
    "esp-tunnel-ctr128-sha256",
    "esp-tunnel-gcm128-esn",
    "esp-tunnel-gcm256-esn-wrap",
    "esp-tunnel-gmac128",
]
"""What the gateware lacks, and the control element does itself."""
SCENARIOS = [
    "esp-transport-cbc128-sha256",
    "esp-transport-gcm256",
    "esp-tunnel-cbc128-sha256",
    "esp-tunnel-cbc128-sha256-reorder",
    "esp-tunnel-cbc256-sha1",
    "esp-tunnel-gcm128",
    "esp-tunnel-gcm128-corrupt",
    "esp-tunnel-gcm128-replay",
    "esp-tunnel-null-sha256",
    "mixed-four-tunnels-and-clear",
]
"""What it does all of. The others: tests/sim/test_software.py."""
TUNNELS = [name for name in SCENARIOS if "transport" not in name]
TRANSPORTS = [name for name in SCENARIOS if "transport" in name]
IPV4 = b"\x08\x00"


def run(name, settings=None, capabilities=GATEWARE):
    """The scenario through gateway and control element, frame after frame."""
    captured = capture.read(CAPTURES / name)
    gateway = SoftGateway(capabilities=capabilities)
    port = SoftPort(gateway)
    control = ControlElement(
        tables=gateway,
        port=port,
        topology=captured.topology,
        sas=captured.sas,
        policies=captured.policies,
        settings=settings or LINUX,
    )
    loop = Loop(gateway, control, port)

    async def feed():
        await control.start()
        for arrival in captured.frames:
            await loop.feed(arrival.port, arrival.frame)

    asyncio.run(feed())
    return captured, loop


def ipv4_frames(name, file):
    return [item.frame for item in pcap.read(CAPTURES / name / file) if item.frame[12:14] == IPV4]


def linux_counts(name):
    """Replayed packets and failed integrity checks, summed over the SAs of xfrm-state-after.txt."""
    text = (CAPTURES / name / "xfrm-state-after.txt").read_text()
    found = re.findall(r"replay (\d+) failed (\d+)", text)
    return sum(int(replay) for replay, _ in found), sum(int(failed) for _, failed in found)


def opened(captured, frames):
    """What network-side frames carry, by scapy's ESP: IP packets without ESP, ID of the outer
    header aside.
    """
    encryption = {Cipher.NULL: "NULL", Cipher.AES_CBC: "AES-CBC", Cipher.AES_GCM: "AES-GCM"}
    hmacs = {Auth.NONE: "NULL", Auth.HMAC_SHA1_96: "HMAC-SHA1-96", Auth.HMAC_SHA256_128: "SHA2-256-128"}
    keys = {}
    for sa in captured.sas:
        if sa.direction == Direction.OUTBOUND:
            keys[sa.spi] = SecurityAssociation(
                ESP,
                sa.spi,
                crypt_algo=encryption[sa.cipher],
                crypt_key=sa.key + sa.salt,
                crypt_icv_size=sa.icv_bytes or None,
                auth_algo=hmacs[sa.auth],
                auth_key=sa.auth_key,
                tunnel_header=IP() if sa.mode == Mode.TUNNEL else None,
            )
    found = []
    for frame in frames:
        packet = IP(frame[14:])
        if ESP in packet:
            packet = keys[packet[ESP].spi].decrypt(packet)
        found.append(bytes(packet))
    return found


@pytest.mark.parametrize("name", [*TUNNELS, *SOFTWARE])
def test_tunnels_send_on_the_server_side_what_linux_sent(name):
    _, loop = run(name)
    expected = ipv4_frames(name, "server-out.pcap")
    assert loop.sent[Port.SERVER] == expected, "Ethernet headers included"


@pytest.mark.parametrize("name", TUNNELS)
def test_tunnels_send_on_the_network_side_what_linux_sent(name):
    captured, loop = run(name)
    expected = ipv4_frames(name, "network-out.pcap")
    assert opened(captured, loop.sent[Port.NETWORK]) == opened(captured, expected)
    assert [frame[:14] for frame in loop.sent[Port.NETWORK]] == [frame[:14] for frame in expected]


@pytest.mark.parametrize("name", SOFTWARE)
def test_software_path_sends_on_the_network_side_what_linux_sent(name):
    """Opened by the software path itself, which must open what Linux sent."""
    captured, loop = run(name)
    (sa,) = [sa for sa in captured.sas if sa.direction == Direction.OUTBOUND]
    sides = []
    for frames in (ipv4_frames(name, "network-out.pcap"), loop.sent[Port.NETWORK]):
        peer = SoftSa(replace(sa, direction=Direction.INBOUND))
        sides.append([peer.decapsulate(frame[14:]) for frame in frames])
    assert sides[0] == sides[1] != []
    assert loop.control.programmed["sa"] == 0 and len(loop.control.refusals) == 2


@pytest.mark.parametrize("name", TRANSPORTS)
def test_transport_hands_on_what_the_receiver_got(name):
    _, loop = run(name)
    delivered = []
    for frame in loop.sent[Port.SERVER]:
        packet = IP(frame[14:])
        if UDP in packet:
            payload = bytes(packet[UDP].payload)[: packet[UDP].len - 8]
            delivered.append([packet.src, packet.sport, len(payload), hashlib.sha256(payload).hexdigest()])
    expected = json.loads((CAPTURES / name / "delivered-server.json").read_text())
    # Linux sends two packets before its receiver is there, to warm up.
    assert [item for item in delivered if item in expected] == expected
    assert len(delivered) >= len(expected)


@pytest.mark.parametrize("name", TRANSPORTS)
def test_transport_keeps_ethernet_header_and_time_to_live(name):
    _, loop = run(name)
    arrived = ipv4_frames(name, "network-in.pcap")
    assert [frame[:14] for frame in loop.sent[Port.SERVER]] == [frame[:14] for frame in arrived]
    assert [frame[22] for frame in loop.sent[Port.SERVER]] == [frame[22] for frame in arrived]


@pytest.mark.parametrize("name", TRANSPORTS)
def test_transport_encrypts_what_the_host_behind_it_sends(name):
    """What Linux sent, decrypted, goes in at the server port, and comes out encrypted for the same peer."""
    captured, _ = run(name)
    sent = ipv4_frames(name, "network-out.pcap")
    clear = opened(captured, sent)
    gateway = SoftGateway()
    port = SoftPort(gateway)
    loop = Loop(
        gateway,
        ControlElement(
            tables=gateway,
            port=port,
            topology=captured.topology,
            sas=captured.sas,
            policies=captured.policies,
            settings=LINUX,
        ),
        port,
    )

    async def feed():
        for frame, packet in zip(sent, clear, strict=True):
            await loop.feed(Port.SERVER, frame[:14] + packet)

    asyncio.run(feed())
    assert opened(captured, loop.sent[Port.NETWORK]) == clear
    assert [frame[:14] for frame in loop.sent[Port.NETWORK]] == [frame[:14] for frame in sent]


@pytest.mark.parametrize("name", SCENARIOS)
def test_drops_and_counts_what_linux_dropped(name):
    _, loop = run(name)
    replayed, failed = linux_counts(name)
    assert loop.drops == Counter({Reason.REPLAY: replayed, Reason.ICV: failed}) - Counter()


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_frame_is_accounted_for(name):
    captured, loop = run(name)
    out = sum(map(len, loop.sent.values()))
    ended = sum(loop.control.consumed.values())
    assert len(captured.frames) == out + loop.drops.total() + ended
    assert sum(loop.control.punted.values()) == sum(loop.control.injected.values()) + ended


@pytest.mark.parametrize("name", SCENARIOS)
def test_programs_each_sa_once_and_then_stays_out_of_the_way(name):
    captured, loop = run(name)
    used = 2 if "transport" not in name else 1
    assert loop.control.programmed["sa"] == (8 if name.startswith("mixed") else used)
    assert loop.control.punted[Reason.UNKNOWN_SPI] == sum(
        sa.direction == Direction.INBOUND for sa in captured.sas
    )
    assert loop.control.injected == {
        InjectMode.CLASSIFY: loop.control.punted[Reason.UNKNOWN_SPI] + loop.control.punted[Reason.NO_RULE]
    }


def test_miss_drop_loses_the_first_packet_of_each_stream():
    name = "esp-tunnel-gcm128"
    _, loop = run(name, replace(LINUX, miss=Miss.DROP))
    # Inbound the first packet misses the CAM, and the second the rule for what was in the tunnel.
    assert loop.sent[Port.SERVER] == ipv4_frames(name, "server-out.pcap")[2:]
    assert loop.drops == {Reason.NO_SA: 3}


@pytest.mark.parametrize(
    "name", ["esp-tunnel-gcm128-replay", "esp-transport-cbc128-sha256", "mixed-four-tunnels-and-clear"]
)
def test_software_path_does_the_same(name):
    """With a gateway that lacks all algorithms the control element decrypts and encrypts
    everything itself.
    """
    _, loop = run(name, capabilities=replace(GATEWARE, ciphers=frozenset()))
    captured, hardware = run(name)
    assert loop.sent[Port.SERVER] == hardware.sent[Port.SERVER]
    assert opened(captured, loop.sent[Port.NETWORK]) == opened(captured, hardware.sent[Port.NETWORK])
    assert loop.drops == hardware.drops
    assert loop.control.programmed["sa"] == 0 and loop.control.software["decrypted"] > 0
    assert all(why in ("aes-gcm", "aes-cbc") for why in loop.control.refusals.values())


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_registers_say_all_that_is_needed(name):
    """A gateway that knows only the registers that are written does what the one with the tables themselves
    does.
    """
    captured, expected = run(name)
    gateway = RegisterGateway(registers(), {sa.auth_key for sa in captured.sas})
    port = SoftPort(gateway)

    async def feed():
        driver = await Driver.open(gateway)
        control = ControlElement(
            tables=driver,
            port=port,
            topology=captured.topology,
            sas=captured.sas,
            policies=captured.policies,
            settings=LINUX,
        )
        await control.start()
        loop = Loop(gateway, control, port)
        for arrival in captured.frames:
            await loop.feed(arrival.port, arrival.frame)
        return loop

    loop = asyncio.run(feed())
    assert loop.sent == expected.sent and loop.drops == expected.drops
    assert loop.control.programmed == expected.control.programmed


def test_one_dfe_enabled_gets_everything():
    _, loop = run("mixed-four-tunnels-and-clear", replace(LINUX, cfe=CfeSettings(enable=2)))
    counters = asyncio.run(loop.gateway.counters())
    assert "packets_in" not in counters.dfes[0] and counters.dfes[1]["decrypted"] == 128
