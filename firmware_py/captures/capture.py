"""A folder with what was captured on a Linux gateway: what it was configured to do, and the frames that
came in.
"""

from dataclasses import dataclass
from pathlib import Path

from spigate.firmware_py.captures import pcap, xfrm
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
    """What the files of a folder say; ``frames`` in the order of their times."""

    topology: Topology
    sas: list[Sa]
    policies: list[Policy]
    frames: list[Arrival]


def read(folder: Path, *, network_port: str | None = None, server_port: str | None = None) -> Capture:
    """Reads ``xfrm-state.txt``, ``xfrm-policy.txt``, the JSON files of ``ip``, ``network-in.pcap`` and
    ``server-in.pcap``.

    Parameters
    ----------
    network_port, server_port : str or None
        Names of the interfaces behind the ports; None: found by where the SAs end.

    Raises
    ------
    InputError
        A file is missing or wrong; the message names it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder")
    states = folder / "xfrm-state.txt"
    topology = from_ip(folder, endpoints=xfrm.endpoints(states), network=network_port, server=server_port)
    frames = []
    for port, name in ((Port.NETWORK, "network-in.pcap"), (Port.SERVER, "server-in.pcap")):
        try:
            frames += [Arrival(item.time, port, item.frame) for item in pcap.read(folder / name)]
        except FileNotFoundError:
            raise InputError(f"{folder / name}: expected a pcap file, but there is no such file") from None
    return Capture(
        topology,
        xfrm.read_states(states, topology.local),
        xfrm.read_policies(folder / "xfrm-policy.txt"),
        sorted(frames, key=lambda arrival: arrival.time),
    )
