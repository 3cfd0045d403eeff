# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Peers in TOML: who may take part, as whom, shown how, and for which traffic; secrets in files of their own.

What may stand there is said in :mod:`spigate.firmware_py.daemon.peer_keys`.
"""

from dataclasses import dataclass, fields
from pathlib import Path

from cryptography import x509

from spigate.firmware_py import trusted
from spigate.firmware_py.daemon.peer_keys import (
    CHILD,
    IKE,
    LIFETIME,
    OWN,
    PEER,
    RETRANSMISSION,
    SERVER,
    START_NOW,
    START_ON_TRAFFIC,
    TRAFFIC,
    Values,
)
from spigate.firmware_py.ike.crypto import proposals
from spigate.firmware_py.ike.engine.admission import Limits
from spigate.firmware_py.ike.engine.context import Settings
from spigate.firmware_py.ike.peers.certificates import Authorities, load_certificates, load_private_key
from spigate.firmware_py.ike.peers.identities import Identity
from spigate.firmware_py.ike.peers.pad import (
    AccessToken,
    ChildConfig,
    KeyPair,
    Pad,
    Peer,
    PreSharedKey,
    Shared,
)
from spigate.firmware_py.ike.peers.retransmission import Retransmission
from spigate.firmware_py.ike.wire.registry import ProtocolId
from spigate.firmware_py.ike.wire.selectors import sees_ports
from spigate.firmware_py.ike.wire.structures import Proposal
from spigate.firmware_py.ipsec.sa import ANY_PORTS, Lifetime, Network, Selectors, within
from spigate.firmware_py.toml import Table


class Files:
    """Files that a configuration names, relative to its own folder.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def public(self, table: Table, key: str, name: str) -> tuple[bytes, str]:
        """Contents, and path for errors; refused where others than its owner may put another there: it says
        whom to trust. Raises ConfigError."""
        return self._read(table, key, name, secret=False)

    def secret(self, table: Table, key: str, name: str) -> tuple[bytes, str]:
        """As :meth:`public`; refused also where others than its owner may read the file."""
        return self._read(table, key, name, secret=True)

    def _read(self, table: Table, key: str, name: str, *, secret: bool) -> tuple[bytes, str]:
        path = self._folder / name
        try:
            return trusted.read(path, secret=secret), str(path)
        except trusted.Untrusted as error:
            raise table.error(key, error.expected, error.found) from None
        except (OSError, ValueError) as error:
            raise table.error(
                key, "a file that can be read", f"{path}: {getattr(error, 'strerror', error)}"
            ) from None


def read_settings(table: Table, *, key_log: bool) -> Settings:
    """What ``[ike]`` says. Raises ConfigError."""
    values = IKE.read(table)
    limits = table.build(Limits, **{each.name: values.pop(each.name) for each in fields(Limits)})
    return Settings(limits=limits, key_log=key_log, **values)


@dataclass(frozen=True)
class _Own:
    """Credentials of this side: a secret that the peer has too, a key with certificates, or both, or none."""

    shared: Shared | None
    pair: KeyPair | None


@dataclass(frozen=True)
class _Server:
    identity: Identity
    addresses: tuple[Network, ...]
    own: _Own


def read_pad(top: Table, folder: Path) -> tuple[Pad, dict[tuple[str, str], str]]:
    """All peers, and how each child starts, by the names of peer and child. Raises ConfigError."""
    peers, starts, files = [], {}, Files(folder)
    servers = {name: _server(table, files) for name, table in top.table("server", {}).all()}
    for name, table in top.table("peer", {}).all():
        peer, begin = _peer(name, table, servers, files)
        peers.append(peer)
        starts.update({(name, child): start for child, start in begin.items()})
    return top.guard("peer", lambda: Pad(peers)), starts


def _server(table: Table, files: Files) -> _Server:
    values = SERVER.read(table)
    chain = values["certificate_files"]
    own = _own(table, values, files)
    if own == _Own(None, None):
        raise table.error(
            "psk_file", "the name of a file, or token_file, or certificate_files and key_file instead"
        )
    if own.shared and own.pair:
        raise table.error("certificate_files", "nothing, because the server has a secret", chain)
    return table.build(_Server, own=own, identity=values["identity"], addresses=tuple(values["addresses"]))


def _peer(name: str, table: Table, servers: dict[str, _Server], files: Files) -> tuple[Peer, dict[str, str]]:
    values = PEER.read(table)
    named = table.inner("child", values.pop("child"))
    server = _served(table, values, servers)
    local, remote = _credentials(table, values, server, files)
    retransmission = table.inner("retransmission", values.pop("retransmission"))
    children, starts = [], {}
    for child, inner in named.all():
        made, starts[child] = _child(child, inner, server.addresses if server else ())
        children.append(made)
    values["proposals"] = _proposals(table, values["proposals"], ProtocolId.IKE)
    values["networks"] = tuple(values["networks"])
    peer = table.build(
        Peer,
        name=name,
        **values,
        local_credential=local,
        remote_credential=remote,
        children=tuple(children),
        retransmission=retransmission.build(Retransmission, **RETRANSMISSION.read(retransmission)),
        initiate=START_NOW in starts.values() and values["address"] is not None,
    )
    if peer.address is None and START_ON_TRAFFIC in starts.values():
        raise table.error("address", "an IP address, because a child starts with traffic")
    return peer, starts


def _served(table: Table, values: Values, servers: dict[str, _Server]) -> _Server | None:
    """The server of a peer's ``values``, if it names one; its identity is put there."""
    name = values.pop("server")
    if name is None:
        if values["local_identity"] is None:
            raise table.error("local_identity", "an identity such as gw.example, or server instead")
        return None
    if name not in servers:
        raise table.error(
            "server",
            f"one of {', '.join(servers)}" if servers else "a server, [server.NAME], but there is none",
            name,
        )
    for key in ("local_identity", "certificate_files", "key_file"):
        if values[key]:
            raise table.error(key, f"nothing, because server {name} has it", str(values[key]))
    values["local_identity"] = servers[name].identity
    return servers[name]


def _credentials(
    table: Table, values: Values, server: _Server | None, files: Files
) -> tuple[Shared | KeyPair, Shared | Authorities]:
    """How this side, and how the peer, shows who it is. Takes the keys of files out of ``values``."""
    authorities = [
        each for name in values.pop("ca_files") for each in _certificates(table, "ca_files", name, files)
    ]
    given = "token_file" if values["token_file"] else "psk_file"
    secret = values[given]
    own = _own(table, values, files)
    pair, shared = own.pair, own.shared
    if server:
        if shared and server.own.shared:
            raise table.error(given, "nothing, because the server has a secret", secret)
        pair, shared = server.own.pair, shared or server.own.shared
    if own.shared and pair and authorities:
        raise table.error(given, "nothing, because both sides show certificates", secret)
    if shared is not None:
        return pair or shared, Authorities(authorities) if authorities else shared
    if pair and authorities:
        return pair, Authorities(authorities)
    raise table.error(
        "psk_file", "the name of a file, or token_file, or certificate_files, key_file and ca_files instead"
    )


def _own(table: Table, values: Values, files: Files) -> _Own:
    """Takes the keys of :data:`OWN` out of ``values``."""
    psk, token, chain, key = (values.pop(each.name) for each in OWN)
    if psk is not None and token is not None:
        raise table.error("token_file", "nothing, because there is a psk_file", token)
    if bool(chain) != (key is not None):
        raise table.error(
            "key_file" if chain else "certificate_files",
            f"together with {'certificate_files' if chain else 'key_file'}",
        )
    shared: Shared | None = None
    pair: KeyPair | None = None
    if psk is not None:
        shared = _shared(table, "psk_file", psk, files)
    if token is not None:
        shared = AccessToken(lambda: _shared(table, "token_file", token, files))
        shared.fetch()  # so that a wrong one is told of at once
    if chain:
        certificates = [
            each for name in chain for each in _certificates(table, "certificate_files", name, files)
        ]
        pair = table.guard(
            "key_file",
            lambda: KeyPair(load_private_key(*files.secret(table, "key_file", key)), tuple(certificates)),
        )
    return _Own(shared, pair)


def _shared(table: Table, key: str, name: str, files: Files) -> PreSharedKey:
    return table.guard(key, lambda: PreSharedKey(files.secret(table, key, name)[0].rstrip(b"\r\n")))


def _certificates(table: Table, key: str, name: str, files: Files) -> tuple[x509.Certificate, ...]:
    return table.guard(key, lambda: load_certificates(*files.public(table, key, name)))


def _child(name: str, table: Table, networks: tuple[Network, ...]) -> tuple[ChildConfig, str]:
    """``networks``: those that this side's traffic must be of, where there are any."""
    values = CHILD.read(table)
    start = values.pop("start")
    traffic = tuple(selectors(each) for each in table.inners("traffic", values.pop("traffic")))
    if networks and not traffic:
        raise table.error("traffic", "a list of tables, because the server's addresses are given")
    for each in traffic:
        if networks and not any(within(each.source, network) for network in networks):
            raise table.error(
                "traffic",
                f"local in {', '.join(map(str, networks))}, where the server stands",
                str(each.source),
            )
    hard, soft = (values.pop(key) for key in ("hard", "soft"))
    if hard is not None:
        values["hard"] = lifetime(table.inner("hard", hard))
        values["soft"] = _shorter(values["hard"])
    if soft is not None:
        values["soft"] = lifetime(table.inner("soft", soft))
    values["proposals"] = _proposals(table, values["proposals"], values["protocol"])
    return table.build(ChildConfig, name=name, traffic=traffic, initiate=start == START_NOW, **values), start


def lifetime(table: Table) -> Lifetime:
    """What ``hard`` or ``soft`` says. Raises ConfigError."""
    return table.build(Lifetime, **LIFETIME.read(table))


def _shorter(lifetime: Lifetime) -> Lifetime:
    limits = {each.name: getattr(lifetime, each.name) for each in fields(Lifetime)}
    return Lifetime(**{name: limit and max(1, limit * 9 // 10) for name, limit in limits.items()})


def _proposals(table: Table, words: list[str], protocol: ProtocolId) -> tuple[Proposal, ...]:
    return table.guard("proposals", lambda: tuple(proposals.parse(each, protocol) for each in words))


def selectors(table: Table) -> Selectors:
    """Traffic from this side to the peer's. Raises ConfigError."""
    values = TRAFFIC.read(table)
    if (
        not sees_ports(values["protocol"])
        and not values["local_ports"] == values["remote_ports"] == ANY_PORTS
    ):
        raise table.error("protocol", "6 (TCP) or 17 (UDP), because there are ports", values["protocol"])
    return table.build(
        Selectors,
        source=values["local"],
        destination=values["remote"],
        protocol=values["protocol"],
        source_ports=values["local_ports"],
        destination_ports=values["remote_ports"],
    )
