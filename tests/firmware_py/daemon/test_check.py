# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What --check accepts also starts: a mirrored peer gets every child of it, and nothing unexpected happens
on either side.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spigate.firmware_py.daemon import config
from spigate.firmware_py.daemon.loop import Daemon
from spigate.firmware_py.daemon.software import Software
from spigate.firmware_py.ike.engine.negotiation import MOST_PARTS
from spigate.firmware_py.ike.peers.identities import Identity
from spigate.firmware_py.ike.peers.pad import Peer
from spigate.firmware_py.toml import ConfigError
from spigate.hdl.contract.enums import Mode
from tests.firmware_py.ike.network import Network, reverse

_mostly = st.sampled_from
_nets = {
    4: ("10.{}.0.0/24", "10.{}.1.7/32", "0.0.0.0/0"),
    6: ("2001:db8:{}::/48", "2001:db8:{}::7/128", "::/0"),
}
_ports = _mostly(
    [
        *[""] * 12,
        ", protocol = 6",
        ", protocol = 17, local_ports = [53, 53]",
        ", protocol = 6, remote_ports = [1, 1024]",
        ", remote_ports = [80, 80]",
        ", protocol = 1",
        ", protocol = 132",
        ", protocol = 132, local_ports = [1, 2]",
        ", protocol = 1, local_ports = [8, 8]",
        ", protocol = 0, local_ports = [9, 8]",
    ]
)


@st.composite
def _pair(draw) -> str:
    """One of ``traffic``."""
    version = draw(_mostly([4, 4, 6]))
    local, remote = (draw(_mostly(_nets[version])).format(draw(st.integers(low, low + 3))) for low in (1, 5))
    return f'{{ local = "{local}", remote = "{remote}"{draw(_ports)} }}'


@st.composite
def _child(draw) -> str:
    transport = draw(_mostly([False, False, False, True]))
    traffic = [] if transport else draw(st.lists(_pair(), min_size=1, max_size=4))
    lines = [
        f"traffic = [{', '.join(traffic)}]",
        'mode = "transport"' if transport else "",
        draw(
            _mostly(
                [
                    "",
                    "",
                    'protocol = "ah"\nproposals = ["sha256-noesn-esn"]',
                    'proposals = ["aes128gcm16-esn-noesn"]',
                    'proposals = ["aes128-sha1"]',
                    'proposals = ["null-sha256"]',
                    'proposals = ["aes128gcm16-sha1"]',
                ]
            )
        ),
        draw(_mostly(["", "", "reqid = 7", "replay_window = 128"])),
        draw(
            _mostly(
                [
                    "",
                    "",
                    "hard = { packets = 5 }",
                    "hard = { seconds = 100 }\nsoft = { bytes = 9 }",
                    "soft = { seconds = 4000 }",
                ]
            )
        ),
    ]
    return "\n".join(filter(None, lines))


@st.composite
def configurations(draw) -> str:
    ends = draw(
        _mostly(
            [("192.0.2.1", "192.0.2.2")] * 20
            + [
                ("2001:db8::1", "2001:db8::2"),
                ("0.0.0.0", "192.0.2.2"),
                ("192.0.2.1", "::2"),
                ("192.0.2.1", "224.0.0.1"),
                ("192.0.2.2", "192.0.2.2"),
                ("fe80::1", "fe80::2"),
            ]
        )
    )
    text = f"[host]\ndevice_mtu = {draw(_mostly([1380, 1380, 1380, 1000]))}\n"
    for at, child in enumerate(draw(st.lists(_child(), min_size=1, max_size=3))):
        if not at:
            text += (
                f'[peer.b]\nlocal_address = "{ends[0]}"\naddress = "{ends[1]}"\nlocal_identity = "a.example"\npsk_file = "psk"\n'
                'remote_identity = "b.example"\nproposals = ["aes128gcm16-prfsha256-curve25519"]\n'
                f"force_encapsulation = {draw(_mostly(['false', 'false', 'true']))}\n"
            )
        text += f"[peer.b.child.c{at}]\n{child}\n"
    return text


def mirrored(peer: Peer) -> Peer:
    """How the other side is told of the one that has ``peer``."""
    return replace(
        peer,
        name="a",
        address=peer.local_address,
        local_address=peer.address,
        initiate=False,
        networks=(),
        local_identity=Identity.parse(peer.remote_identity),
        remote_identity=str(peer.local_identity),
        children=tuple(map(reverse, peer.children)),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("check")
    (folder / "psk").write_text("a secret of two")
    (folder / "psk").chmod(0o600)
    return folder


def test_what_a_check_accepts_starts(folder):
    seen: Counter[bool] = Counter()

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(configurations())
    def each(text: str) -> None:
        seen[starts(folder / "spigate.toml", text)] += 1

    each()
    assert min(seen[True], seen[False]) >= 5


def starts(file: Path, text: str) -> bool:
    """Whether it is accepted; then it also comes up."""
    file.write_text(text)
    try:
        made = config.read(file)
    except ConfigError as error:
        assert str(file) in str(error) and "key " in str(error)
        return False
    Daemon(made, Software)
    (peer,) = made.pad
    network = Network()
    a = network.host("a", str(peer.local_address), peer)
    b = network.host("b", str(peer.address), mirrored(peer))
    a.start()
    network.run(5)
    for host in (a, b):
        kinds = host.kinds()
        assert not kinds.keys() & {"internal", "child-failed", "ike-failed", "refused"}, [
            event.text for event in host.events
        ]
        # where children overlap, the other side may narrow one to another's traffic, and the rest becomes
        # one more
        assert len(peer.parts) <= len(host.children) <= MOST_PARTS * len(peer.parts)
    assert all(
        child.agreement.mode == child.config.mode or child.config.mode == Mode.TRANSPORT
        for child in a.children
    )
    return True
