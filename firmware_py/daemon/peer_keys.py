# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What may stand in TOML about peers, their children and IKE: keys, values, defaults, and what each means.

The reference (docs/configuration.md) is made of these schemas, and :mod:`spigate.firmware_py.daemon.peers`
reads by them.
"""

from ipaddress import ip_address, ip_network
from typing import Any

from spigate.firmware_py import toml
from spigate.firmware_py.ike.peers.identities import Identity
from spigate.firmware_py.ike.peers.pad import is_host
from spigate.firmware_py.ike.wire.registry import ProtocolId
from spigate.firmware_py.ipsec.sa import ANY_PORTS, Address, Network
from spigate.firmware_py.toml import Key, Schema, integer, list_of, string
from spigate.hdl.contract.enums import Mode

START_NOW, START_ON_TRAFFIC, START_NEVER = "now", "traffic", "never"
Values = dict[str, Any]
"""What stands in a table, by key: of each what its schema's ``convert`` gives."""
_PROBES = tuple(map(Identity.parse, ("192.0.2.1", "a.example", "a@example", "CN=a", "keyid:a")))


def network(value: object) -> Network:
    """A network; the error names it where host bits are set."""
    word = string(value)
    try:
        return ip_network(word)
    except ValueError:
        raise toml.UnknownWord(str(ip_network(word, strict=False))) from None


def address(value: object) -> Address:
    """An IP address of a host. ValueError, TypeError."""
    found = ip_address(string(value))
    if not is_host(found):
        raise ValueError
    return found


def _ports(value: object) -> tuple[int, int]:
    low, high = list_of(integer(0, 0xFFFF))(value)
    if low > high:
        raise ValueError
    return low, high


def _pattern(value: object) -> str:
    """A pattern that can be compared with identities of all kinds."""
    pattern = string(value)
    for probe in _PROBES:
        probe.matches(pattern)
    return pattern


def _identity(value: object) -> Identity:
    return Identity.parse(string(value))


_NAMES = list_of(string)
_IDENTITIES = (
    "An IP address, a host name, `user@host`, a distinguished name (`C=CH, O=Example, CN=gw`) or "
    "`keyid:TEXT`. With a "
    "certificate, the subject or a subjectAltName of it."
)

TRAFFIC = Schema(
    "traffic",
    "What a child SA, or a policy, is about: addresses, protocol and ports. Written inline.",
    (
        Key("local", "a network", network, "Addresses on this side."),
        Key("remote", "a network", network, "Addresses on the peer's side."),
        toml.number(
            "protocol", 0, 255, "IP protocol, such as 6 for TCP; every one where it is not given.", None
        ),
        Key(
            "local_ports",
            "two port numbers, in order",
            _ports,
            "First and last port on this side, of TCP and UDP.",
            ANY_PORTS,
            "all",
        ),
        Key(
            "remote_ports",
            "two port numbers, in order",
            _ports,
            "First and last port on the peer's side, of TCP and UDP.",
            ANY_PORTS,
            "all",
        ),
    ),
)
LIFETIME = Schema(
    "lifetime",
    "Limits of a child SA, or of one that is keyed by hand. Written inline.",
    (
        toml.number("seconds", 1, toml.LARGEST, "Time since it was made.", None),
        toml.number("bytes", 1, toml.LARGEST, "Bytes carried.", None),
        toml.number("packets", 1, toml.LARGEST, "Packets carried.", None),
    ),
)
RETRANSMISSION = Schema(
    "retransmission",
    "How often a request is sent again before the peer is given up. Written inline.",
    (
        toml.fraction("timeout", 0.01, 1000, "Seconds until the first repetition.", 2.0),
        toml.fraction("factor", 1, 1000, "Each wait is so many times the one before.", 1.8),
        toml.number("tries", 0, 1000, "Repetitions.", 5),
    ),
)
OWN = (
    Key(
        "psk_file",
        "the name of a file",
        string,
        "File with the pre-shared key: its text without the newline at the end. "
        "Used where there are no certificates. Nobody but its owner may read it.",
        None,
    ),
    Key(
        "token_file",
        "the name of a file",
        string,
        "The same with an access token, which somebody else replaces from time to time: it is "
        "read anew for each handshake.",
        None,
    ),
    Key(
        "certificate_files",
        "a list of names of files",
        _NAMES,
        "This side's certificate and the intermediate ones, PEM or DER, its own first.",
        [],
    ),
    Key(
        "key_file",
        "the name of a file",
        string,
        "Private key of the first certificate, PEM or DER: RSA, ECDSA or Ed25519. "
        "Nobody but its owner may read it.",
        None,
    ),
)
"""How this side shows who it is."""
SERVER = Schema(
    "server.NAME",
    "A protected server that the gateway stands in for, with an identity and credentials of its own. Its "
    "peers "
    "name it as their `server`.",
    (
        Key(
            "identity",
            "an identity such as web.example",
            _identity,
            "Who this side says it is to the server's peers. " + _IDENTITIES,
        ),
        Key(
            "addresses",
            "a list of networks",
            list_of(network),
            "Where it stands: `traffic` of its peers' children must be from there.",
            [],
            "anywhere",
        ),
        *OWN,
    ),
)
PEER = Schema(
    "peer.NAME",
    "A peer, or several that are treated alike.",
    (
        Key(
            "address",
            "a host's IP address",
            address,
            "Where this side begins, and from where the peer may come. Without it only the peer begins.",
            None,
        ),
        Key(
            "local_address",
            "a host's IP address",
            address,
            "From where this side begins; it goes with `address`.",
            None,
        ),
        Key(
            "networks",
            "a list of networks",
            list_of(network),
            "From where the peer may come.",
            [],
            "`address`, or anywhere",
        ),
        Key(
            "server",
            "the name of a server",
            string,
            "The protected server that this is a peer of: then [server.NAME](#servername) "
            "says who this side is, and how it shows that.",
            None,
        ),
        Key(
            "local_identity",
            "an identity such as gw.example",
            _identity,
            "Who this side says it is. " + _IDENTITIES,
            None,
            "must be given, here or by `server`",
        ),
        Key(
            "remote_identity",
            "an identity such as b.example, or a pattern such as *.example",
            _pattern,
            "Who the peer must be. Patterns: `%any`, `*.example`, `*@example`, `O=Example, CN=*`, a network.",
        ),
        *OWN,
        Key(
            "ca_files",
            "a list of names of files",
            _NAMES,
            "Certificates of the authorities that may vouch for the peer. Then "
            "the peer must show a certificate.",
            [],
        ),
        Key(
            "proposals",
            "a list of words such as aes256gcm16-prfsha384-ecp384",
            _NAMES,
            "Algorithms of the IKE SA, in order of preference; the words are strongSwan's.",
            [],
            "AES-GCM, ChaCha20-Poly1305 or AES-CBC with SHA-2, all groups",
        ),
        toml.seconds_or_never("rekey_seconds", "When the IKE SA is replaced, less jitter.", 14400),
        toml.seconds_or_never("lifetime_seconds", "When the IKE SA ends.", 15840),
        toml.fraction(
            "jitter",
            0,
            0.99,
            "A random part, up to this fraction, by which `rekey_seconds` is shortened.",
            0.1,
        ),
        toml.seconds_or_never(
            "dpd_seconds", "After so long a silence the peer is asked whether it lives.", 30
        ),
        toml.seconds_or_never(
            "keepalive_seconds", "Behind a NAT, a datagram so often keeps its mapping (RFC 3948 4).", 20
        ),
        Key(
            "retransmission",
            "a table",
            toml.dictionary,
            "See [retransmission](#retransmission).",
            {},
            "its defaults",
        ),
        toml.number(
            "fragment_bytes",
            576,
            0xFFFF,
            "Largest IKE datagram; longer messages go in fragments (RFC 7383).",
            1280,
        ),
        toml.flag("force_encapsulation", "ESP in UDP even without a NAT.", False),
        toml.flag(
            "zero_checksum",
            "ESP in UDP over IPv6 is taken without a UDP checksum too (RFC 6935, 6936).",
            False,
        ),
        toml.seconds("retry_seconds", "So long after a failure it is tried again.", 10),
        Key(
            "child",
            "tables, [peer.NAME.child.NAME]",
            toml.dictionary,
            "See [peer.NAME.child.NAME](#peernamechildname).",
            {},
            "none",
        ),
    ),
)
CHILD = Schema(
    "peer.NAME.child.NAME",
    "A pair of ESP or AH SAs with that peer, and the traffic that goes through it.",
    (
        Key(
            "traffic",
            'a list of tables such as { local = "10.1.0.0/24", remote = "10.2.0.0/24" }',
            list_of(toml.dictionary),
            "See [traffic](#traffic). What is not all pairs of some networks here and some there is "
            "negotiated as several child SAs.",
            [],
            "all between the two ends",
        ),
        toml.choice(
            "protocol",
            {"esp": ProtocolId.ESP, "ah": ProtocolId.AH},
            "ESP encrypts; AH only authenticates, and passes no NAT.",
            "esp",
        ),
        toml.choice(
            "mode",
            {"tunnel": Mode.TUNNEL, "transport": Mode.TRANSPORT},
            "Transport is for traffic between the two ends themselves.",
            "tunnel",
        ),
        Key(
            "proposals",
            "a list of words such as aes256gcm16-ecp384-esn",
            _NAMES,
            "Algorithms, in order of preference; with a key "
            "exchange such as ecp384 rekeying has perfect forward secrecy.",
            [],
            "AES-GCM or AES-CBC with SHA-2",
        ),
        Key(
            "hard",
            "a table",
            toml.dictionary,
            "When it ends; see [lifetime](#lifetime).",
            None,
            "`{ seconds = 3600 }`",
        ),
        Key(
            "soft",
            "a table",
            toml.dictionary,
            "When it is replaced; see [lifetime](#lifetime).",
            None,
            "`{ seconds = 3240 }`; with `hard`, nine tenths of that",
        ),
        toml.fraction(
            "jitter", 0, 0.99, "A random part, up to this fraction, by which soft limits are shortened.", 0.1
        ),
        toml.number(
            "reqid",
            0,
            0xFFFF_FFFF,
            "What ties policies to its SAs, for other tools to see; 0: a number that nobody else has.",
            0,
        ),
        toml.number(
            "replay_window",
            0,
            4096,
            "Sequence numbers that the anti-replay window covers; 0: no protection from replay.",
            64,
        ),
        toml.choice(
            "start",
            {each: each for each in (START_NOW, START_ON_TRAFFIC, START_NEVER)},
            "`now`: with the gateway, and again whenever it ends. `traffic`: with the first packet. "
            "`never`: only the peer, or "
            "the operator, begins.",
            START_NOW,
        ),
    ),
)
IKE = Schema(
    "ike",
    "How IKE defends itself.",
    (
        toml.number(
            "cookie_threshold",
            0,
            1_000_000,
            "From so many handshakes on that are half open or failed lately, cookies "
            "are asked for; and from half of `per_source` on, at that address.",
            16,
        ),
        toml.number(
            "half_open",
            1,
            1_000_000,
            "So many half-open handshakes at most; one more takes the place of the oldest.",
            1024,
        ),
        toml.number(
            "per_source",
            1,
            1_000_000,
            "So many from one address (IPv6: one /64); what comes then from there is dropped.",
            8,
        ),
        toml.number(
            "lingering",
            1,
            1_000_000,
            "So many closed IKE SAs still answer their last request, `per_source` from one address.",
            256,
        ),
        toml.seconds("half_open_seconds", "So long an initiator has for its handshake.", 30),
        toml.seconds("cookie_seconds", "So long a secret for cookies is used.", 60),
        toml.seconds("linger_seconds", "So long a replaced inbound SA still takes what is on its way.", 5),
        toml.flag(
            "esn_required",
            "A proposal of ESP or AH without an ESN transform is refused, as RFC 7296 3.3.3 has it. "
            "Otherwise it means "
            "no ESN, as those peers mean it that leave it out.",
            False,
        ),
        toml.seconds("handshake_seconds", "So long a handshake that this side begins has in all.", 180),
        toml.number(
            "ike_sas_per_identity",
            1,
            1_000_000,
            "So many IKE SAs may one identity of one entry have. One more takes the "
            "place of the one that was not heard for longest.",
            16,
        ),
        toml.number(
            "children_per_identity",
            1,
            1_000_000,
            "So many child SAs may it have, on all its IKE SAs together. One more is refused.",
            256,
        ),
    ),
)
