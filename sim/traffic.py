# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Traffic for the demo: a gateway before three servers, what Linux captured, and what scapy makes.

The machine behind the network port is the Linux gateway of the captures, 192.0.2.1; the servers are
10.2.0.10, .11 and .12.
"""

import random
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from spigate.firmware_py.captures import capture
from spigate.firmware_py.captures.capture import Arrival, Capture
from spigate.firmware_py.control.topology import Neighbour, Topology
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, PolicyDirection, Template
from spigate.firmware_py.ipsec.sa import Auth, Cipher, Sa, Selectors
from spigate.hdl.contract.enums import Direction, Mode, Port

TUNNELS, REPLAYED = "mixed-four-tunnels-and-clear", "esp-tunnel-gcm128-replay"
PEER, OURS = ip_address("192.0.2.1"), ip_address("192.0.2.2")
PEER_MAC, NETWORK_MAC, SERVER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:02:01"
SERVERS = {f"10.2.0.{host}": f"02:00:00:00:02:{host}" for host in (10, 11, 12)}
CLEAR_HOST = "10.1.0.200"
SIZES = (0, 1, 18, 64, 200, 512, 1000, 1380)
SUITES = (
    ("10.1.0.31", "10.2.0.11", 31, Cipher.AES_GCM, 32, Auth.NONE, ("AES-GCM", None)),
    ("10.1.0.32", "10.2.0.12", 32, Cipher.AES_CBC, 24, Auth.HMAC_SHA1_96, ("AES-CBC", "HMAC-SHA1-96")),
    ("10.1.0.33", "10.2.0.12", 33, Cipher.NULL, 0, Auth.HMAC_SHA256_128, ("NULL", "SHA2-256-128")),
)
"""Remote host, server, request id, cipher, length of its key, authenticator, and the last two in scapy's
words.
"""
UNKNOWN_SPI = 0xDEAD_BEEF


def fig_2(folder: Path, seed: int = 2) -> Capture:
    """FIG. 2 of WO 02/062033: SAs, policies and neighbours of a gateway with three servers, and a mix of
    frames: captures out of ``folder`` (SAs of Linux, clear packets, replays), and from scapy clear packets,
    three more SAs in both directions, an unknown SPI, replayed, damaged and malformed packets.
    """
    tunnels, replayed = (
        capture.read(folder / TUNNELS),
        narrowed(capture.read(folder / REPLAYED), "10.1.0.10", "10.2.0.10", 41),
    )
    generator = random.Random(seed)
    sas, policies, streams = [*tunnels.sas, *replayed.sas], [*replayed.policies, *tunnels.policies], []
    for suite in SUITES:
        stream, inbound, outbound = _tunnel(generator, suite)
        streams.append(stream)
        sas += [inbound, outbound]
        policies = [*_policies(suite[0], suite[1], suite[2]), *policies]
    streams.append(_clear(generator))
    streams.append(_unwelcome(generator))
    known = tunnels.topology
    neighbours = [
        *known.neighbours.values(),
        *(
            Neighbour(ip_address(host), Port.SERVER, bytes.fromhex(mac.replace(":", "")))
            for host, mac in SERVERS.items()
        ),
    ]
    topology = Topology(known.interfaces.values(), neighbours, known.routes)
    frames = _mixed(generator, [tunnels.frames, replayed.frames, *streams])
    return Capture(topology, sas, policies, frames)


def narrowed(given: Capture, host: str, server: str, reqid: int) -> Capture:
    """A capture of a tunnel between networks, as one between two hosts: so it can stand beside others between
    the same networks.
    """

    def pair(selectors: Selectors) -> Selectors:
        ends = (host, server) if ip_address(host) in selectors.source else (server, host)
        source, destination = map(ip_network, ends)
        return Selectors(source, destination)

    policies = [
        replace(
            policy,
            selectors=pair(policy.selectors),
            templates=tuple(replace(template, reqid=reqid) for template in policy.templates),
        )
        for policy in given.policies
    ]
    return Capture(given.topology, [replace(sa, reqid=reqid) for sa in given.sas], policies, given.frames)


def _mixed(generator: random.Random, streams: list[list[Arrival]]) -> list[Arrival]:
    """The streams dealt into one, each in its own order."""
    left = [list(reversed(stream)) for stream in streams]
    mixed = []
    while any(left):
        stream = generator.choices(left, weights=[len(stream) for stream in left])[0]
        mixed.append(stream.pop())
    return [replace(arrival, time=at) for at, arrival in enumerate(mixed)]


def _tunnel(generator: random.Random, suite: tuple[Any, ...]) -> tuple[list[Arrival], Sa, Sa]:
    """Both directions of a tunnel: what scapy encrypts, some of it a second time, some of it damaged, and
    clear answers of the server; and the two SAs.
    """
    host, server, reqid, cipher, key_bytes, auth, (scapy_cipher, scapy_auth) = suite
    key, salt = generator.randbytes(key_bytes), generator.randbytes(4) if cipher == Cipher.AES_GCM else b""
    auth_key = generator.randbytes({Auth.NONE: 0, Auth.HMAC_SHA1_96: 20, Auth.HMAC_SHA256_128: 32}[auth])
    common = {
        "mode": Mode.TUNNEL,
        "cipher": cipher,
        "key": key,
        "salt": salt,
        "auth": auth,
        "auth_key": auth_key,
        "icv_bytes": 16 if cipher == Cipher.AES_GCM else 0,
        "reqid": reqid,
        "replay_window": 64,
    }
    inbound = Sa(
        direction=Direction.INBOUND, spi=0x1000_0000 + reqid, source=PEER, destination=OURS, **common
    )
    outbound = Sa(
        direction=Direction.OUTBOUND,
        spi=0x2000_0000 + reqid,
        source=OURS,
        destination=PEER,
        **{**common, "key": generator.randbytes(key_bytes)},
    )
    peer = SecurityAssociation(
        ESP,
        spi=inbound.spi,
        seq_num=1,
        crypt_algo=scapy_cipher,
        crypt_key=key + salt or None,
        auth_algo=scapy_auth,
        auth_key=auth_key or None,
        tunnel_header=IP(src=str(PEER), dst=str(OURS)),
    )
    stream = []
    for at, size in enumerate(SIZES):
        plain = (
            IP(src=host, dst=server, ttl=64, id=at)
            / UDP(sport=4000 + at, dport=53)
            / Raw(generator.randbytes(size))
        )
        iv = generator.randbytes({Cipher.AES_GCM: 8, Cipher.AES_CBC: 16}.get(cipher, 0))
        frame = bytes(_from_network() / peer.encrypt(IP(bytes(plain)), iv=iv or None))
        stream.append(Arrival(0, Port.NETWORK, frame))
        if at % 3 == 1:
            stream.append(Arrival(0, Port.NETWORK, frame))
        if at % 4 == 2:
            broken = bytearray(frame)
            broken[-generator.randrange(1, len(frame) - 60)] ^= 1 << generator.randrange(8)
            # A later number, so that it is the ICV that fails; that number is not used up by it.
            broken[38:42] = (at + 2).to_bytes(4)
            stream.append(Arrival(0, Port.NETWORK, bytes(broken)))
        answer = (
            IP(src=server, dst=host, ttl=64, id=at)
            / UDP(sport=53, dport=4000 + at)
            / Raw(generator.randbytes(size))
        )
        stream.append(Arrival(0, Port.SERVER, bytes(_from_server(server) / answer)))
    return stream, inbound, outbound


def _policies(host: str, server: str, reqid: int) -> list[Policy]:
    def policy(source: str, destination: str, direction: PolicyDirection, ends: tuple[Any, ...]) -> Policy:
        template = Template(source=ends[0], destination=ends[1], mode=Mode.TUNNEL, reqid=reqid)
        return Policy(
            selectors=Selectors(ip_network(source), ip_network(destination)),
            direction=direction,
            action=PolicyAction.PROTECT,
            templates=(template,),
        )

    return [
        policy(host, server, PolicyDirection.FORWARD, (PEER, OURS)),
        policy(host, server, PolicyDirection.IN, (PEER, OURS)),
        policy(server, host, PolicyDirection.OUT, (OURS, PEER)),
    ]


def _clear(generator: random.Random) -> list[Arrival]:
    """Clear packets between a host that may speak so and the servers, there and back."""
    stream = []
    for at in range(12):
        server = list(SERVERS)[at % len(SERVERS)]
        payload = Raw(generator.randbytes(generator.choice(SIZES)))
        there = IP(src=CLEAR_HOST, dst=server, id=at) / UDP(sport=6000, dport=123) / payload
        back = IP(src=server, dst=CLEAR_HOST, id=at) / TCP(sport=80, dport=7000, seq=at) / payload
        stream.append(Arrival(0, Port.NETWORK, bytes(_from_network() / there)))
        stream.append(Arrival(0, Port.SERVER, bytes(_from_server(server) / back)))
    return stream


def _unwelcome(generator: random.Random) -> list[Arrival]:
    """Packets that must not get through: an SPI that nobody knows, a reserved one, a wrong header checksum, a
    length that lies.
    """
    stream = []
    for at in range(3):
        unknown = IP(src=str(PEER), dst=str(OURS), id=at) / ESP(
            spi=UNKNOWN_SPI, seq=at + 1, data=generator.randbytes(64)
        )
        reserved = IP(src=str(PEER), dst=str(OURS), id=at) / ESP(spi=at, seq=1, data=generator.randbytes(64))
        wrong = bytearray(
            bytes(
                _from_network()
                / IP(src=CLEAR_HOST, dst="10.2.0.10", id=at)
                / UDP(sport=1, dport=2)
                / Raw(bytes(40))
            )
        )
        wrong[24] ^= 0xFF
        short = bytes(
            _from_network()
            / IP(src=CLEAR_HOST, dst="10.2.0.10", id=at)
            / UDP(sport=1, dport=2)
            / Raw(bytes(40))
        )[:50]
        stream += [
            Arrival(0, Port.NETWORK, bytes(frame))
            for frame in (_from_network() / unknown, _from_network() / reserved, wrong, short)
        ]
    return stream


def _from_network() -> Ether:
    return Ether(src=PEER_MAC, dst=NETWORK_MAC)


def _from_server(server: str) -> Ether:
    return Ether(src=SERVERS[server], dst=SERVER_MAC)
