# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Our endpoint and strongSwan above a Linux kernel's own ESP and AH, in a user-mode Linux: without UDP, all
modes.
"""

import socket

import pytest

from spigate.firmware_py.ike.crypto.proposals import parse
from spigate.firmware_py.ike.engine.endpoint import Endpoint
from spigate.firmware_py.ike.peers.pad import Pad
from spigate.firmware_py.ike.wire.registry import ProtocolId
from spigate.firmware_py.ipsec.sa import ESP
from spigate.hdl.contract.enums import Mode
from tests.firmware_py.ike.hosts import OURS, THEIRS, inside
from tests.firmware_py.ike.network import child
from tests.firmware_py.ike.strongswan import REQUEST, KernelCharon, Pump, ipv4, open_esp, swanctl_conf
from tests.firmware_py.ike.test_strongswan import us, wait

pytestmark = [pytest.mark.xdist_group("strongswan"), pytest.mark.slow]


@pytest.fixture
def live(kernel):
    uml, folder, charon = kernel
    pumps = []

    def make(peer, conf: str) -> tuple[Pump, KernelCharon]:
        (folder / "swanctl.conf").write_text(conf)
        charon.load()
        pumps.append(Pump(uml, Endpoint(Pad([peer]))))
        return pumps[0], charon

    yield make
    pumps[0].act("stop")
    pumps[0].until(lambda: not list(pumps[0].endpoint.ikes))
    pumps[0].close()


def passes(pump: Pump, namespace: str) -> None:
    """Their kernel understands an echo request by the keys that were agreed on, and we its answer."""
    outbound, inbound = list(pump.plane.sending.values())[0], pump.plane.inbound
    with inside(namespace):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, ESP)
    with raw:
        raw.settimeout(5)
        tunnel = outbound.mode == Mode.TUNNEL
        request = ipv4("10.1.0.7", "10.2.0.1", REQUEST) if tunnel else REQUEST
        raw.sendto(pump.seal_esp(outbound, request, 4 if tunnel else 1), (str(THEIRS), 0))
        packet = raw.recv(1500)[20:]
    answer = open_esp(inbound[int.from_bytes(packet[:4])], packet, 4 if tunnel else 1)
    assert answer[-8:] == bytes.fromhex("0000ffff00000000")
    assert not tunnel or answer[12:20] == bytes([10, 2, 0, 1, 10, 1, 0, 7])


@pytest.mark.parametrize("who", ["we", "they"])
@pytest.mark.parametrize("mode", [Mode.TUNNEL, Mode.TRANSPORT])
@pytest.mark.parametrize(
    "protocol, words",
    [
        (ProtocolId.ESP, "aes128gcm16"),
        (ProtocolId.ESP, "aes256-sha256-esn"),
        (ProtocolId.ESP, "aes256gcm16-ecp256-esn"),
        (ProtocolId.ESP, "null-sha256"),
        (ProtocolId.AH, "sha256"),
        (ProtocolId.AH, "sha512-ecp256-esn"),
    ],
)
def test_protocols_and_modes(live, kernel, protocol, words, mode, who):
    name = protocol.name.lower()
    conf = swanctl_conf(extra=f"mode = {mode.name.lower()}\n        {name}_proposals = {words}")
    if protocol == ProtocolId.AH:
        conf = conf.replace("esp_proposals = aes128gcm16", "")
    traffic = "10.1.0.0/24=10.2.0.0/24" if mode == Mode.TUNNEL else ""
    if mode == Mode.TRANSPORT:
        conf = conf.replace("local_ts = 10.2.0.0/24", "").replace("remote_ts = 10.1.0.0/24", "")
    config = child(traffic=traffic, protocol=protocol, mode=mode, proposals=(parse(words, protocol),))
    pump, charon = live(us(children=(config,)), conf)
    if who == "we":
        pump.act("initiate", "b")
        pump.until(lambda: pump.count("child-up") == 1)
    else:
        wait(pump, charon.start_swanctl("--initiate", "--child", "net"))
    for count, begin in enumerate(
        (
            None,
            lambda: pump.act("rekey", "b", "net"),
            lambda: wait(pump, charon.start_swanctl("--rekey", "--child", "net")),
        )
    ):
        if begin is not None:
            begin()
            pump.until(lambda count=count: pump.count("child-rekeyed") == count)
        listed = charon.swanctl("--list-sas")
        assert listed.count("INSTALLED") == 1, listed
        assert f"INSTALLED, {mode.name}, {name.upper()}:" in listed, listed
        outbound = list(pump.plane.sending.values())[0]
        assert outbound.encapsulation is None and outbound.esn == words.endswith("-esn")
        assert (outbound.source, outbound.destination) == (OURS, THEIRS)
        if protocol == ProtocolId.ESP:
            passes(pump, kernel[0].ours)
