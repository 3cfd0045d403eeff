"""A folder with a capture: what Linux's ``ip`` printed of its IPsec, and the frames that arrived."""
from dataclasses import dataclass
from pathlib import Path

from spigate.firmware_py import pcap
from spigate.firmware_py.network import Topology, from_ip
from spigate.firmware_py.policy import Policy
from spigate.firmware_py.punt import Port
from spigate.firmware_py.sa import Sa
from spigate.firmware_py.xfrm import endpoints, read_policies, read_states

INPUTS = {Port.NETWORK: "network-in.pcap", Port.SERVER: "server-in.pcap"}


@dataclass(frozen=True)
class Capture:
    """Members
    -------
    sas, policies, topology
        Of the gateway, from the files ``xfrm-state.txt``, ``xfrm-policy.txt``, ``addr.json``, ``link.json``, ``neigh.json``, ``route.json`` and ``route6.json``.
    frames : list of (Port, bytes)
        What arrived, in the order of the timestamps.
    """

    sas: list[Sa]
    policies: list[Policy]
    topology: Topology
    frames: list[tuple[Port, bytes]]


def read(folder: Path) -> Capture:
    """Reads ``folder``.

    Raises
    ------
    InputError
        A file is missing or wrong; the message names it.
    """
    states = folder / "xfrm-state.txt"
    topology = from_ip(folder, endpoints=endpoints(states))
    arrived = [(item.time, port, item.frame) for port, name in INPUTS.items() for item in pcap.read(folder / name)]
    arrived.sort(key=lambda item: item[0])
    return Capture(read_states(states, topology.local), read_policies(folder / "xfrm-policy.txt"), topology,
                   [(port, frame) for _, port, frame in arrived])
