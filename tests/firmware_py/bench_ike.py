# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Handshakes a second of a gateway beside strongSwan's charon: each answers the same initiator, with the
same suites, in one run.

    python -m tests.firmware_py.bench_ike --json FILE --markdown FILE

An initiator (the project's own endpoint) sets up an IKE SA with a child and deletes it again, one after the
other, through a cable between two network namespaces. Told of each responder: how long it takes to answer
IKE_SA_INIT and IKE_AUTH, as the initiator sees it, and the processor time of its process for a handshake
and the deletion.
"""

import argparse
import json
import os
import select
import socket
import statistics
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path

from rich.console import Console
from rich.table import Table

from spigate.firmware_py import terminal
from spigate.firmware_py.ike.engine.actions import Datagram, Event, EventKind, Socket
from spigate.firmware_py.ike.engine.endpoint import Endpoint
from spigate.firmware_py.ike.peers.identities import Identity
from spigate.firmware_py.ike.peers.pad import Pad, Peer
from spigate.firmware_py.ike.wire.message import Header
from spigate.firmware_py.ike.wire.registry import ExchangeType
from tests.firmware_py.daemon.bed import Gateway
from tests.firmware_py.ike.hosts import OURS, THEIRS, Wire, inside, missing
from tests.firmware_py.ike.network import SECRET, child, esp, ike
from tests.firmware_py.ike.strongswan import STRONGSWAN, Charon, swanctl_conf

SUITES = (
    "aes128gcm16-prfsha256-curve25519",
    "aes128gcm16-prfsha256-ecp256",
    "aes256gcm16-prfsha384-ecp384",
    "aes256-sha256-modp2048",
)
CHILD = "aes128gcm16"
WARM_UP, HANDSHAKES = 5, 300
GATEWAY = """
[host]
control = "CONTROL"
log_level = "error"

[peer.a]
address = "{ours}"
local_address = "{theirs}"
local_identity = "b.example"
remote_identity = "a.example"
psk_file = "psk"
proposals = ["{suite}"]

[peer.a.child.net]
traffic = [{{ local = "10.2.0.0/24", remote = "10.1.0.0/24" }}]
proposals = ["{child}"]
start = "never"
"""


@dataclass(frozen=True)
class Cost:
    """Of one handshake, for who answers it: seconds until both answers (of the fastest tenth, which others on
    the machine disturb least), seconds of processor time (the mean).
    """

    answers: float
    cpu: float


@dataclass(frozen=True)
class Comparison:
    """The same suite, with both."""

    suite: str
    ours: Cost
    strongswan: Cost

    def ratios(self) -> tuple[float, float]:
        """Our handshakes a second for each of strongSwan's: by the time of the answers, by processor time."""
        return self.strongswan.answers / self.ours.answers, self.strongswan.cpu / self.ours.cpu


class Initiator:
    """Begins handshakes from :data:`OURS`, and takes the time."""

    def __init__(self, namespace: str, suite: str):
        peer = Peer(
            name="b",
            address=THEIRS,
            local_address=OURS,
            proposals=ike(suite),
            local_credential=SECRET,
            remote_credential=SECRET,
            local_identity=Identity.parse("a.example"),
            remote_identity="b.example",
            children=(child(proposals=esp(CHILD)),),
        )
        self._endpoint = Endpoint(Pad([peer]))
        self._sockets = []
        with inside(namespace):
            for port in (500, 4500):
                made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                made.bind((str(OURS), port))
                self._sockets.append(made)
        self._sent = self._waited = 0.0

    def close(self) -> None:
        for each in self._sockets:
            each.close()

    def handshake(self) -> float:
        """One, and its end; seconds that its answers took."""
        self._waited = 0.0
        self._endpoint.initiate(time.monotonic(), "b")
        self._until(EventKind.CHILD_UP)
        self._endpoint.terminate(time.monotonic(), "b")
        self._until(EventKind.IKE_DOWN)
        return self._waited

    def _until(self, kind: EventKind) -> None:
        end = time.monotonic() + 10
        while not self._settle(kind):
            assert time.monotonic() < end, f"no {kind} within 10 s"
            for each in select.select(self._sockets, [], [], 0.5)[0]:
                data, (address, port) = each.recvfrom(65536)
                now, local = time.monotonic(), each.getsockname()[1]
                if Header.parse(data[4 * (local == 4500) :]).exchange != ExchangeType.INFORMATIONAL:
                    self._waited += now - self._sent
                self._endpoint.receive(now, data, Socket(OURS, local), Socket(ip_address(address), port))

    def _settle(self, kind: EventKind) -> bool:
        done = False
        for output in self._endpoint.take():
            match output:
                case Datagram(source=source, destination=destination, data=data):
                    self._sent = time.monotonic()
                    self._sockets[source.port == 4500].sendto(
                        data, (str(destination.address), destination.port)
                    )
                case Event():
                    assert output.kind not in (EventKind.IKE_FAILED, EventKind.CHILD_FAILED), output.text
                    done |= output.kind == kind
        return done


def _cpu(pid: int) -> float:
    """Processor time of a process and of those that it waited for, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _cost(wire: Wire, suite: str, pid: int, handshakes: int) -> Cost:
    with closing(Initiator(wire.ours, suite)) as initiator:
        for _ in range(WARM_UP):
            initiator.handshake()
        before = _cpu(pid)
        answers = [initiator.handshake() for _ in range(handshakes)]
        return Cost(statistics.quantiles(answers, n=10)[0], (_cpu(pid) - before) / handshakes)


def compare(wire: Wire, folder: Path, suite: str, handshakes: int = HANDSHAKES) -> Comparison:
    """Both, one after the other. AssertionError: a handshake failed."""
    values = {"ours": OURS, "theirs": THEIRS, "suite": suite, "child": CHILD}
    with ExitStack() as stack:
        gateway = Gateway(wire.theirs, folder / "gateway", GATEWAY.format(**values))
        stack.callback(gateway.close)
        gateway.start()
        ours = _cost(wire, suite, gateway.pid, handshakes)
    with ExitStack() as stack:
        (folder / "charon").mkdir()
        (folder / "charon/swanctl.conf").write_text(swanctl_conf(ike=suite, esp=CHILD))
        charon = Charon(wire, folder / "charon", log_level=-1)
        stack.callback(charon.close)
        charon.start()
        strongswan = _cost(wire, suite, charon.pid, handshakes)
    return Comparison(suite, ours, strongswan)


def markdown(found: list[Comparison]) -> str:
    """The ratios: what does not depend on the machine as much."""
    lines = [
        ("suite", "handshakes a second, of strongSwan's", "by processor time"),
        ("---", "---:", "---:"),
        *((each.suite, *(f"{ratio:.2f}" for ratio in each.ratios())) for each in found),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def show(console: Console, found: list[Comparison]) -> None:
    table = Table(title="IKEv2 handshakes answered: IKE_SA_INIT, IKE_AUTH, PSK, one child")
    for name in ("suite", "a second", "strongSwan's", "ratio", "CPU ms", "strongSwan's", "ratio"):
        table.add_column(name, justify="left" if name == "suite" else "right", overflow="fold")
    for each in found:
        answers, cpu = each.ratios()
        table.add_row(
            each.suite,
            f"{1 / each.ours.answers:.0f}",
            f"{1 / each.strongswan.answers:.0f}",
            f"{answers:.2f}",
            f"{1000 * each.ours.cpu:.1f}",
            f"{1000 * each.strongswan.cpu:.1f}",
            f"{cpu:.2f}",
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table of ratios there")
    parser.add_argument(
        "--handshakes", type=int, default=HANDSHAKES, help=f"of each suite and each of the two ({HANDSHAKES})"
    )
    args = parser.parse_args()
    console = terminal.console()
    lack = missing(*STRONGSWAN)
    if lack is not None:
        print(f"handshakes beside strongSwan's: not measured, this machine lacks {lack}")
        return
    found = []
    with Wire() as wire, console.status("") as status:
        for suite in SUITES:
            status.update(suite)
            with tempfile.TemporaryDirectory() as folder:
                found.append(compare(wire, Path(folder), suite, args.handshakes))
    show(console, found)
    for path, text in (
        (args.json, json.dumps([asdict(each) for each in found], indent=2) + "\n"),
        (args.markdown, markdown(found)),
    ):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


if __name__ == "__main__":
    main()
