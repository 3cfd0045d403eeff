# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What was captured on a Linux gateway: what it was configured to do, and the frames that came in."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from spigate.firmware_py.captures import deduced, pcap, pcapng, sources, xfrm
from spigate.firmware_py.captures.frames import Captured
from spigate.firmware_py.captures.sources import Sources
from spigate.firmware_py.control.topology import Topology, from_ip
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.policy import Policy
from spigate.firmware_py.ipsec.sa import Sa
from spigate.hdl.contract.enums import Port


@dataclass(frozen=True)
class Arrival:
    """A frame that came in at ``port``; ``time`` is in nanoseconds since 1970."""

    time: int
    port: Port
    frame: bytes


@dataclass(frozen=True)
class Capture:
    """What the files say; ``frames`` in the order of their times. ``sent``: so many that the gateway itself
    had sent are left out.
    """

    topology: Topology
    sas: list[Sa]
    policies: list[Policy]
    frames: list[Arrival]
    sent: int = 0


def read(given: Path | Sources) -> Capture:
    """Reads a folder, or the files of ``given``. docs/captures.md says what must be there, and what is found
    out of the frames where it is not.

    Raises
    ------
    InputError
        Files are missing or wrong; the message names them.
    """
    files = given if isinstance(given, Sources) else sources.find(given)
    network, server = _frames(files)
    policies, ends = xfrm.read_policies(files.xfrm_policy), xfrm.endpoints(files.xfrm_state)
    for path, found, what in ((files.xfrm_state, ends, "SA"), (files.xfrm_policy, policies, "policy")):
        if not found:
            raise InputError(f"{path}: there is no {what} in it; ip xfrm shows them to root alone")
    if files.ip is not None:
        topology = from_ip(files.ip, endpoints=ends, network=files.network, server=files.server)
    else:
        names = (files.network or "network", files.server or "server")
        topology = deduced.topology(policies, ends, network, server, names=names)
    arrivals = [
        *_arrivals(topology, Port.NETWORK, network),
        *_arrivals(topology, Port.SERVER, server),
    ]
    return Capture(
        topology,
        xfrm.read_states(files.xfrm_state, topology.local),
        policies,
        sorted(arrivals, key=lambda arrival: arrival.time),
        len(network) + len(server) - len(arrivals),
    )


def _frames(files: Sources) -> tuple[list[Captured], list[Captured]]:
    """Those at the two ports. One pcapng file may have both, by names of interfaces."""
    network = pcap.read(files.network_pcap, files.network)
    if files.server_pcap is not None:
        if files.server_pcap.samefile(files.network_pcap) and (files.network is None or files.server is None):
            raise InputError(
                f"{files.network_pcap}: expected a file for each port, or one of pcapng and the names of two "
                f"interfaces in it (--network-interface, --server-interface)"
            )
        return network, pcap.read(files.server_pcap, files.server)
    if files.server is not None and files.server in pcapng.interfaces(files.network_pcap):
        return network, pcap.read(files.network_pcap, files.server)
    return network, []


def _arrivals(topology: Topology, port: Port, frames: Iterable[Captured]) -> list[Arrival]:
    """Without those that the gateway sent, which a capture without a direction has too."""
    own = topology.interfaces[port].mac
    return [Arrival(each.time, port, each.frame) for each in frames if each.frame[6:12] != own]
