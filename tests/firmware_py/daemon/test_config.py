# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from spigate.firmware_py.control.topology import NetworkRoute
from spigate.firmware_py.daemon import config, peer_keys, reference
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.peers.certificates import Authorities
from spigate.firmware_py.ike.peers.pad import AccessToken, KeyPair, PreSharedKey
from spigate.firmware_py.ike.wire.registry import ProtocolId
from spigate.firmware_py.ipsec.policy import PolicyAction
from spigate.firmware_py.ipsec.sa import Lifetime
from spigate.firmware_py.tables.interface import Balance, CfeSettings, Source
from spigate.firmware_py.toml import ConfigError, Schema
from spigate.hdl.contract.enums import Mode, Port
from tests.firmware_py.ike.authority import Authority

SECRET = "correct horse"
PEER = """
[peer.b]
address = "192.0.2.2"
local_address = "192.0.2.1"
local_identity = "a.example"
remote_identity = "b.example"
psk_file = "psk"
"""
CHILD = (
    PEER
    + """
[peer.b.child.net]
traffic = [{ local = "10.1.0.0/24", remote = "10.2.0.0/24", protocol = 6, remote_ports = [443, 443] }]
"""
)


@pytest.fixture
def read(tmp_path):
    """Reads a configuration in whose folder stand a pre-shared key and certificates."""
    authority = Authority(ed25519.Ed25519PrivateKey.generate())
    key = ed25519.Ed25519PrivateKey.generate()
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files = {
        "psk": f"{SECRET}\n".encode(),
        "key.pem": encoded,
        "empty": b"\n",
        "noise": b"\xff" * 99,
        "own.pem": authority.issue(key.public_key()).public_bytes(serialization.Encoding.PEM),
        "ca.pem": authority.certificate.public_bytes(serialization.Encoding.PEM),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "open").write_text(SECRET)
    (tmp_path / "open").chmod(0o640)

    def make(text: str, **options):
        path = tmp_path / "spigate.toml"
        path.write_text(text)
        return config.read(path, **options)

    return make


def test_defaults_are_those_of_the_schema(read):
    made = read("")
    assert list(made.pad) == [] and made.device == "spigate0" and made.control == Path("/run/spigate.sock")
    assert (made.mtu, made.device_mtu, made.metrics_port, made.settings.key_log) == (1500, 1380, 0, False)


def test_a_peer_with_a_child(read):
    made = read(CHILD, key_log=True)
    (peer,) = made.pad
    (child,) = peer.children
    assert peer.address == ip_address("192.0.2.2") and peer.initiate and made.settings.key_log
    assert peer.local_credential == peer.remote_credential == PreSharedKey(SECRET.encode())
    assert child.traffic[0].destination == ip_network("10.2.0.0/24") and child.traffic[
        0
    ].destination_ports == (443, 443)
    assert made.starts == {("b", "net"): "now"} and child.initiate


@pytest.mark.parametrize("start,initiate", [("now", True), ("traffic", False), ("never", False)])
def test_how_a_child_starts(read, start, initiate):
    made = read(CHILD + f'start = "{start}"')
    (peer,) = made.pad
    assert (peer.initiate, peer.children[0].initiate, made.starts["b", "net"]) == (initiate, initiate, start)


def test_certificates(read):
    made = read(
        PEER.replace(
            'psk_file = "psk"', 'certificate_files = ["own.pem"]\nkey_file = "key.pem"\nca_files = ["ca.pem"]'
        )
    )
    (peer,) = made.pad
    assert isinstance(peer.local_credential, KeyPair) and isinstance(peer.remote_credential, Authorities)


def test_a_certificate_of_one_side_only(read):
    (peer,) = read(PEER + 'certificate_files = ["own.pem"]\nkey_file = "key.pem"\n').pad
    assert isinstance(peer.local_credential, KeyPair) and isinstance(peer.remote_credential, PreSharedKey)


SERVED = PEER.replace('local_identity = "a.example"', "").replace('psk_file = "psk"', 'server = "web"')
WEB = """
[server.web]
identity = "web.example"
addresses = ["10.1.0.0/28", "fd00:1::/64"]
"""
PAIR = 'certificate_files = ["own.pem"]\nkey_file = "key.pem"\n'
SERVED_CHILD = (
    SERVED + 'CREDENTIAL\n[peer.b.child.net]\ntraffic = [{ local = "10.1.0.8/29", remote = "10.2.0.0/24" }]\n'
)


@pytest.mark.parametrize(
    "server, peer, local, remote",
    [
        ('psk_file = "psk"', "", PreSharedKey, PreSharedKey),
        ('token_file = "psk"', "", AccessToken, AccessToken),
        (PAIR, 'ca_files = ["ca.pem"]', KeyPair, Authorities),
        (PAIR, 'psk_file = "psk"', KeyPair, PreSharedKey),
        ('psk_file = "psk"', 'ca_files = ["ca.pem"]', PreSharedKey, Authorities),
    ],
)
def test_a_server_has_its_own_credentials(read, server, peer, local, remote):
    (made,) = read(WEB + server + SERVED_CHILD.replace("CREDENTIAL", peer)).pad
    assert str(made.local_identity) == "web.example"
    assert isinstance(made.local_credential, local) and isinstance(made.remote_credential, remote)


def test_an_access_token_is_read_when_it_is_needed(read, tmp_path):
    token = read(PEER.replace("psk_file", "token_file")).pad["b"].local_credential
    assert token.secret == SECRET.encode()
    (tmp_path / "psk").write_text("another\n")
    assert token.secret == b"another"
    for spoil in (
        lambda: (tmp_path / "psk").write_text("\n"),
        lambda: (tmp_path / "psk").chmod(0o644),
        lambda: (tmp_path / "psk").unlink(),
    ):
        spoil()
        with pytest.raises(ConfigError, match="key peer.b.token_file"):
            token.fetch()


def test_everything_else_of_a_child(read):
    between = CHILD.replace("10.1.0.0/24", "192.0.2.1/32").replace("10.2.0.0/24", "192.0.2.2/32")
    (peer,) = read(
        between
        + 'protocol = "ah"\nmode = "transport"\nproposals = ["sha256-esn"]\nhard = { packets = 100 }\n'
        "reqid = 7\nreplay_window = 1024\n"
    ).pad
    (child,) = peer.children
    assert (child.protocol, child.mode, child.reqid, child.replay_window) == (
        ProtocolId.AH,
        Mode.TRANSPORT,
        7,
        1024,
    )
    assert (child.hard, child.soft) == (Lifetime(packets=100), Lifetime(packets=90))


def test_policies_are_for_both_ways(read):
    made = read(
        '[[policy]]\naction = "bypass"\nlocal = "10.1.0.0/24"\nremote = "10.2.0.0/24"\nremote_ports = [53, 53]\nprotocol = 17\n'
    )
    out, back = made.policies
    assert out.action == back.action == PolicyAction.BYPASS
    assert back.selectors.source == out.selectors.destination and back.selectors.source_ports == (53, 53)


PORTS = """
[port.network]
mac = "02:00:00:00:00:02"
addresses = ["192.0.2.2/24", "2001:db8::2/64"]
[port.server]
mac = "02:00:00:00:02:01"
addresses = ["10.2.0.1/24"]
mtu = 1400
device = "inside"
"""
ROUTE = (
    PORTS
    + """
[[route]]
destination = "10.1.0.0/16"
gateway = "192.0.2.1"
"""
)


def test_without_hardware_there_are_no_ports(read):
    made = read("")
    assert (made.interfaces, made.routes) == ((), ()) and read("[port]").interfaces == ()


def test_ports_of_hardware(read):
    network, server = read(PORTS).interfaces
    assert (network.port, network.name, network.mtu) == (Port.NETWORK, "spigate-network", 1500)
    assert (server.port, server.name, server.mtu) == (Port.SERVER, "inside", 1400)
    assert network.mac == bytes.fromhex("020000000002")
    assert network.addresses == (ip_interface("192.0.2.2/24"), ip_interface("2001:db8::2/64"))
    without = read(PORTS.replace('addresses = ["10.2.0.1/24"]', ""))
    assert without.interfaces[1].addresses == ()


def test_routes_of_hardware(read):
    assert read(ROUTE).routes == (
        NetworkRoute(ip_network("10.1.0.0/16"), Port.NETWORK, ip_address("192.0.2.1")),
    )
    more = '[[route]]\ndestination = "2001:db8:1::/48"\ngateway = "2001:db8::1"\n[[route]]\ndestination = "0.0.0.0/0"\ngateway = "10.2.0.9"\n'
    assert [(route.port, str(route.gateway)) for route in read(ROUTE + more).routes] == [
        (Port.NETWORK, "192.0.2.1"),
        (Port.NETWORK, "2001:db8::1"),
        (Port.SERVER, "10.2.0.9"),
    ]


def test_how_hardware_goes_about_it(read):
    assert read("").cfe == CfeSettings(balance=Balance.FLOW_HASH, patience=0xFFFF)
    made = read(
        '[gateway]\nbalance = "weighted"\nenable = [0, 2, 2]\nweights = [3, 0]\npatience = 9\ndepth_limit = 1\n'
        "miss_interval = 100\npunt_rates = [1, 2, 0, 4, 5]\n"
    ).cfe
    assert made == CfeSettings(
        balance=Balance.WEIGHTED,
        enable=0b101,
        weights=(3, 0),
        patience=9,
        depth_limit=1,
        miss_interval=100,
        rates=(1, 2, 0, 4, 5),
    )


def test_sources_of_hardware(read):
    assert read("").sources is None
    assert read(
        '[[source]]\nnetwork = "10.1.0.0/24"\nports = ["server"]\n[[source]]\nnetwork = "::/0"\n'
    ).sources == (
        Source(ip_network("10.1.0.0/24"), frozenset({Port.SERVER})),
        Source(ip_network("::/0"), frozenset({Port.NETWORK, Port.SERVER})),
    )


def hardware_mistakes():
    """By name: text and message."""

    def port(old, new):
        assert old in PORTS
        return PORTS.replace(old, new)

    mac = "expected a station's Ethernet address such as 02:00:00:00:00:01, not"
    return {
        "misspelt key": (
            PEER.replace("psk_file", "psk_fil"),
            "key peer.b.psk_fil: unknown key; the nearest known one is psk_file$",
        ),
        "port's name": ("[port.outside]", "key port.outside: unknown key; known here are network, server$"),
        "another port": (
            PORTS + "[port.third]",
            "key port.third: unknown key; known here are network, server$",
        ),
        "ports no table": ("port = 1", "key port: expected a table, not 1"),
        "one port": (PORTS.split("[port.server]")[0], "key port.server: expected a table, not nothing"),
        "no mac": (
            port('mac = "02:00:00:00:00:02"', ""),
            "key port.network.mac: expected a station's Ethernet address .*, not nothing",
        ),
        "mac": (port("02:00:00:00:00:02", "02:00"), f"key port.network.mac: {mac} '02:00'"),
        "mac a number": (port('"02:00:00:00:00:02"', "2"), f"key port.network.mac: {mac} 2"),
        "mac of a group": (
            port("02:00:00:00:00:02", "03:00:00:00:00:02"),
            f"key port.network.mac: {mac} '03",
        ),
        "mac of nobody": (port("02:00:00:00:00:02", "00:00:00:00:00:00"), f"key port.network.mac: {mac} '00"),
        "one mac twice": (
            port("02:00:00:00:02:01", "02:00:00:00:00:02"),
            "key port.server.mac: expected another one than the other port's, not '02:00:00:00:00:02'",
        ),
        "port's addresses": (
            port('["10.2.0.1/24"]', '"10.2.0.1/24"'),
            "key port.server.addresses: expected a list of addresses such as 10.1.0.1/24, not '10",
        ),
        "port's address": (
            port("10.2.0.1/24", "10.2.0.1/33"),
            r"key port.server.addresses: expected a list of addresses .*, not \['10.2.0.1/33'\]",
        ),
        "port's mtu": (port("1400", "1901"), "key port.server.mtu: expected a number, 576 to 1900, not 1901"),
        "port's device": (
            port('"inside"', '"in side"'),
            "key port.server.device: expected a name of at most 15 letters, .*, not 'in side'",
        ),
        "port's device a folder": (
            port('"inside"', '".."'),
            "key port.server.device: expected a name .*, not '..'",
        ),
        "one device twice": (
            port('"inside"', '"spigate-network"'),
            "key port.server.device: expected another one than the other port's, not 'spigate-network'",
        ),
        "port's unknown key": (
            PORTS + "vlan = 7",
            "key port.server.vlan: unknown key; known here are mac, addresses, mtu, device$",
        ),
        "route no list": (PORTS + "[route]", r"key route: expected tables, \[\[route\]\], not"),
        "route without ports": (
            ROUTE.removeprefix(PORTS),
            r"key route\[0\].gateway: expected an address in the network of a port, not '192.0.2.1'",
        ),
        "route from nowhere": (
            ROUTE.replace("192.0.2.1", "192.0.3.1"),
            r"key route\[0\].gateway: expected an address in the network of a port, not '192.0.3.1'",
        ),
        "route to no network": (
            ROUTE.replace("10.1.0.0/16", "10.1.0.1/16"),
            r"key route\[0\].destination: expected a network, not '10.1.0.1/16'; the nearest is '10.1.0.0/16'$",
        ),
        "route without router": (
            ROUTE.replace('gateway = "192.0.2.1"', ""),
            r"key route\[0\].gateway: expected an IP address, not nothing",
        ),
        "route of two versions": (
            ROUTE.replace("192.0.2.1", "2001:db8::1"),
            r"key route\[0\].gateway: expected an IPv4 address, as destination has them, not '2001:db8::1'",
        ),
        "route's unknown key": (
            ROUTE + "metric = 5",
            r"key route\[0\].metric: unknown key; known here are destination, gateway$",
        ),
        "source": (
            '[[source]]\nnetwork = "10.1.0.1/24"',
            r"key source\[0\].network: expected a network, not '10.1.0.1/24'; the nearest is '10.1.0.0/24'$",
        ),
        "source of nowhere": (
            '[[source]]\nnetwork = "10.1.0.0/24"\nports = ["ce"]',
            r"key source\[0\].ports: expected a list of network, server, not \['ce'\]",
        ),
        "balance": (
            '[gateway]\nbalance = "best"',
            "key gateway.balance: expected round-robin or .*, not 'best'$",
        ),
        "balance as it was spelt": (
            '[gateway]\nbalance = "round_robin"',
            "not 'round_robin'; the nearest is 'round-robin'$",
        ),
        "enable": (
            "[gateway]\nenable = [8]",
            r"key gateway.enable: expected a list of DFEs, 0 to 7, not \[8\]",
        ),
        "weight": (
            "[gateway]\nweights = [16]",
            r"key gateway.weights: expected a list of at most 8 numbers, 0 to 15, not \[16\]",
        ),
        "weights": (
            f"[gateway]\nweights = {[1] * 9}",
            "key gateway.weights: expected a list of at most 8 numbers",
        ),
        "patience": (
            "[gateway]\npatience = 65536",
            "key gateway.patience: expected a number, 0 to 65535, not 65536",
        ),
        "depth": ("[gateway]\ndepth_limit = 4", "key gateway.depth_limit: expected a number, 0 to 3, not 4"),
        "interval": (
            "[gateway]\nmiss_interval = -1",
            "key gateway.miss_interval: expected a number, 0 to 16777215, not -1",
        ),
        "rates": (
            "[gateway]\npunt_rates = [1, 2]",
            r"key gateway.punt_rates: expected a list of 5 numbers, 0 to 1000000, not \[1, 2\]",
        ),
        "gateway's unknown key": (
            "[gateway]\ndefault = 1",
            "key gateway.default: unknown key; known here are balance, ",
        ),
    }


MISTAKES = hardware_mistakes() | {
    "not TOML": ("[peer", "expected TOML"),
    "unknown table": ("[gatway]\n", "key gatway: unknown key; the nearest known one is gateway$"),
    "unknown key": (PEER + "addres = 1", "key peer.b.addres: unknown key; the nearest known one is address$"),
    "device": ('[host]\ndevice = "a/b"', "key host.device: expected a name"),
    "port": (
        "[host]\nmetrics_port = 70000",
        "key host.metrics_port: expected a number, 0 to 65535, not 70000",
    ),
    "format": ('[host]\nlog_format = "xml"', "key host.log_format: expected text or json, not 'xml'"),
    "threshold": ("[ike]\nhalf_open = 0", "key ike.half_open: expected a number, 1 to"),
    "address": (
        PEER.replace("192.0.2.2", "192.0.2"),
        "key peer.b.address: expected a host's IP address, not '192.0.2'",
    ),
    "one address": (
        PEER.replace('local_address = "192.0.2.1"', ""),
        "key peer.b: peer 'b' local_address must be given exactly where address is",
    ),
    "identity": (
        PEER.replace('local_identity = "a.example"', 'local_identity = "X=1"'),
        "key peer.b.local_identity: expected an identity",
    ),
    "no identity": (
        PEER.replace('local_identity = "a.example"', ""),
        "key peer.b.local_identity: expected an identity .*, not nothing",
    ),
    "pattern": (
        PEER.replace('"b.example"', '"300.1.2.3/99"'),
        "key peer.b.remote_identity: expected an identity",
    ),
    "no secret": (PEER.replace('psk_file = "psk"', ""), "key peer.b.psk_file: expected the name of a file"),
    "no file": (
        PEER.replace('"psk"', '"none"'),
        "key peer.b.psk_file: expected a file that can be read, not .*none: No such file",
    ),
    "open file": (
        PEER.replace('"psk"', '"open"'),
        r"key peer.b.psk_file: expected a file that only its owner may read \(chmod 600\), not .*mode 0640",
    ),
    "folder": (PEER.replace('"psk"', '"."'), "key peer.b.psk_file: expected a regular file"),
    "empty file": (
        PEER.replace('"psk"', '"empty"'),
        "key peer.b.psk_file: pre-shared key must be at least 1 byte",
    ),
    "key alone": (
        PEER + 'key_file = "key.pem"',
        "key peer.b.certificate_files: expected together with key_file",
    ),
    "certificate alone": (
        PEER + 'certificate_files = ["own.pem"]',
        "key peer.b.key_file: expected together with certificate_files",
    ),
    "noise": (
        PEER + 'certificate_files = ["noise"]\nkey_file = "key.pem"',
        "key peer.b.certificate_files: .*noise: expected certificates in PEM",
    ),
    "noise for a key": (
        PEER + 'certificate_files = ["own.pem"]\nkey_file = "noise"',
        "key peer.b.key_file: .*noise: expected a private key",
    ),
    "another's key": (
        PEER + 'certificate_files = ["ca.pem"]\nkey_file = "key.pem"',
        "key peer.b.key_file: key must be that of the first certificate",
    ),
    "useless secret": (
        PEER + 'certificate_files = ["own.pem"]\nkey_file = "key.pem"\nca_files = ["ca.pem"]',
        "key peer.b.psk_file: expected nothing, because .*, not 'psk'",
    ),
    "proposal": (
        PEER + 'proposals = ["aes256gcm16-ecp384"]',
        "key peer.b.proposals: proposal .* expected a prf",
    ),
    "retransmission": (
        PEER + "retransmission = { tries = -1 }",
        "key peer.b.retransmission.tries: expected a number, 0 to 1000, not -1",
    ),
    "network": (
        CHILD.replace("10.2.0.0/24", "10.2.0.1/24"),
        r"key peer.b.child.net.traffic\[0\].remote: expected a network, not '10.2.0.1/24'; the nearest is '10.2.0.0/24'$",
    ),
    "two versions": (
        CHILD.replace("10.2.0.0/24", "fd00::/64"),
        r"key peer.b.child.net.traffic\[0\]: .* must be an IPv4 network",
    ),
    "ports": (
        CHILD.replace("[443, 443]", "[2, 1]"),
        r"key peer.b.child.net.traffic\[0\].remote_ports: expected two port numbers",
    ),
    "start": (
        CHILD + 'start = "later"',
        "key peer.b.child.net.start: expected now or traffic or never, not 'later'",
    ),
    "limits": (
        CHILD + "hard = { bytes = 10 }\nsoft = { bytes = 20 }",
        "key peer.b.child.net: child 'net' soft bytes must be at most 10, not 20",
    ),
    "child's proposal": (CHILD + 'proposals = ["aes256"]', "key peer.b.child.net.proposals: proposal"),
    "traffic to nobody": (
        CHILD.replace('address = "192.0.2.2"\nlocal_address = "192.0.2.1"', "") + 'start = "traffic"',
        "key peer.b.address: expected an IP address, because a child starts with traffic",
    ),
    "no such server": (
        PEER + 'server = "web"',
        "key peer.b.server: expected a server, .*, but there is none, not 'web'",
    ),
    "another server": (
        WEB + 'psk_file = "psk"' + SERVED.replace('"web"', '"mail"'),
        "key peer.b.server: expected one of web, not 'mail'",
    ),
    "two identities": (
        WEB + 'psk_file = "psk"' + SERVED + 'local_identity = "a.example"',
        "key peer.b.local_identity: expected nothing, because server web",
    ),
    "two secrets": (
        WEB + 'psk_file = "psk"' + SERVED + 'psk_file = "psk"',
        "key peer.b.psk_file: expected nothing, because the server has a secret, not 'psk'",
    ),
    "secret and token": (
        PEER + 'token_file = "psk"',
        "key peer.b.token_file: expected nothing, because .*, not 'psk'",
    ),
    "no token": (
        PEER.replace('psk_file = "psk"', 'token_file = "none"'),
        "key peer.b.token_file: expected a file that can be read",
    ),
    "a server without credentials": (
        WEB,
        "key server.web.psk_file: expected the name of a file, or token_file, or certificate_files",
    ),
    "a server with too many": (
        WEB + PAIR + 'psk_file = "psk"',
        r"key server.web.certificate_files: expected nothing, because .*, not \['own.pem'\]",
    ),
    "a server's unknown key": (
        WEB + 'psk_file = "psk"\nport = 1',
        "key server.web.port: unknown key; ",
    ),
    "traffic not of the server": (
        WEB
        + 'psk_file = "psk"'
        + SERVED_CHILD.replace("CREDENTIAL", "").replace("10.1.0.8/29", "10.1.0.0/24"),
        "key peer.b.child.net.traffic: expected local in 10.1.0.0/28, fd00:1::/64, where the server stands, not '10.1.0.0/24'",
    ),
    "any traffic of the server": (
        WEB + 'psk_file = "psk"' + SERVED + "\n[peer.b.child.net]\n",
        "key peer.b.child.net.traffic: expected a list of tables",
    ),
    **{
        f"no host: {each}": (
            PEER.replace(*pair),
            f"key peer.b.{key}: expected a host's IP address, not '{each}'",
        )
        for key, each, pair in (
            ("local_address", "0.0.0.0", ("192.0.2.1", "0.0.0.0")),
            ("local_address", "255.255.255.255", ("192.0.2.1", "255.255.255.255")),
            ("address", "224.0.0.1", ("192.0.2.2", "224.0.0.1")),
            ("local_address", "::", ("192.0.2.1", "::")),
            ("local_address", "fe80::1", ("192.0.2.1", "fe80::1")),
        )
    },
    "two families": (
        PEER.replace("192.0.2.1", "2001:db8::1"),
        "key peer.b: peer 'b' local_address must be an IPv4 address, as address is one",
    ),
    "to itself": (
        PEER.replace("192.0.2.1", "192.0.2.2"),
        "key peer.b: peer 'b' local_address must be .* another one",
    ),
    "ports of SCTP": (
        CHILD.replace("protocol = 6", "protocol = 132"),
        r"key peer.b.child.net.traffic\[0\].protocol: expected 6 \(TCP\) or 17 .*, not 132",
    ),
    "types of ICMP": (
        CHILD.replace("protocol = 6", "protocol = 1").replace("443", "8"),
        r"traffic\[0\].protocol: expected 6 \(TCP\) or 17 .*, not 1$",
    ),
    "ports of SCTP in a policy": (
        '[[policy]]\nlocal = "10.1.0.0/24"\nremote = "10.2.0.0/24"\nprotocol = 132\nlocal_ports = [1, 2]',
        r"key policy\[0\].protocol: expected 6 \(TCP\) or 17 .*, not 132",
    ),
    "reqid of several": (
        CHILD.replace(
            "traffic = [", 'reqid = 5\ntraffic = [{ local = "10.5.0.0/24", remote = "10.6.0.0/24" }, '
        ),
        "key peer.b.child.net: child 'net' reqid must be 0, because traffic takes several child SAs, not 5",
    ),
    "too much traffic": (
        PEER
        + "[peer.b.child.net]\ntraffic = ["
        + ", ".join(f'{{ local = "10.1.{each}.0/24", remote = "10.2.0.0/24" }}' for each in range(65))
        + "]",
        "key peer.b.child.net: .* at most 64 pairs",
    ),
    "transport between others": (
        CHILD + 'mode = "transport"',
        "key peer.b: .* must be between address and local_address in transport mode",
    ),
    "AH in UDP": (
        CHILD.replace("[peer.b.child", "force_encapsulation = true\n[peer.b.child") + 'protocol = "ah"',
        "force_encapsulation must be false, because AH",
    ),
    "control": (
        f'[host]\ncontrol = "/run/{"x" * 103}"',
        "key host.control: expected the name of a socket, at most 107 bytes",
    ),
    "no address of its own": (
        '[host]\naddresses = ["0.0.0.0/0"]',
        "key host.addresses: expected a list of addresses",
    ),
    "IPv6 in too little": (
        '[host]\ndevice_mtu = 1279\naddresses = ["2001:db8::1/64"]',
        "key host.device_mtu: expected 1280 or more, because there is IPv6",
    ),
    "policy": (
        '[[policy]]\nlocal = "10.0.0.0/8"',
        r"key policy\[0\].remote: expected a network, not nothing",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_with_file_key_and_what_was_expected(read, name):
    text, message = MISTAKES[name]
    with pytest.raises(ConfigError, match=message) as caught:
        read(text)
    assert "spigate.toml" in str(caught.value) and SECRET not in str(caught.value)


def test_two_children_with_one_reqid(read):
    again = CHILD.split("[peer.b.child.net]")[1]
    with pytest.raises(InputError, match="reqid must be used once, not 5"):
        read(CHILD + f"reqid = 5\n[peer.b.child.more]{again}reqid = 5\n")


def test_no_file():
    with pytest.raises(ConfigError, match="none.toml: expected a TOML file, but there is no such file"):
        config.read(Path("none.toml"))


def test_the_reference_is_up_to_date():
    assert (Path(__file__).parents[3] / "docs/configuration.md").read_text() == reference.text()


@pytest.mark.parametrize("module", [config, peer_keys])
def test_no_schema_is_left_out_of_the_reference(module):
    schemas = [value for value in vars(module).values() if isinstance(value, Schema)]
    assert schemas and all(schema in reference.SCHEMAS for schema in schemas)


def test_secrets_are_in_no_repr(read):
    assert SECRET not in repr(read(CHILD))
