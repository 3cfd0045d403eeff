# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The data planes beside a Linux kernel (user-mode Linux) that has the same policies, SAs and frames: an
oracle that is not ours.

``python -m tests.firmware_py.differential_linux --count N`` does N cases (``make fuzz``); with ``--seed``
it does those of an earlier run again.
"""

import asyncio
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from pathlib import Path

from spigate.firmware_py.control.element import ControlElement
from spigate.firmware_py.control.loop import Loop, SoftPort
from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.daemon.plane import Plane
from spigate.firmware_py.errors import ToolMissing
from spigate.firmware_py.ike.engine.actions import AddPolicy, InstallSa, RemovePolicy, RemoveSa
from spigate.firmware_py.ike.peers.pad import Pad
from spigate.firmware_py.ipsec.packet import checksum, rewrite
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction
from spigate.firmware_py.ipsec.sa import ESP, Sa
from spigate.firmware_py.tables.interface import GATEWARE, SOFTWARE
from spigate.firmware_py.tables.model import SoftGateway
from spigate.hdl.contract.enums import Direction, Mode, Port
from tests.firmware_py import linux_router
from tests.firmware_py.differential import LOCAL, TOPOLOGY, Wrong, side
from tests.firmware_py.fuzzing import main
from tests.firmware_py.ike.hosts import KERNEL, Uml, need
from tests.firmware_py.ipsec.foreign_esp import opened
from tests.firmware_py.linux_words import DEVICES, commands, policy_words, state_words
from tests.firmware_py.linux_world import DIRECTED, IN_IP, Case, Change, LinuxWorld

CASES, BATCH = 300, 8
"""In a world; worlds that are told to Linux at once."""
MODULES = ("tun", "sch_ingress", "cls_matchall", "cls_fw", "cls_flower", "act_skbedit", "act_ct")
PROTOCOLS = (1, 6, 17, 47, 132)
"""That the host hears."""
NOBODY = [*map(ip_network, ("0.0.0.0/8", "240.0.0.0/4"))]
BROADCASTS = {ip_address("255.255.255.255"), DIRECTED}
PAUSE, LONG_PAUSE = 0, 0.005
"""Seconds between steps; the long one is for what seems to differ."""


@dataclass
class Trial:
    """A world, what happens in it, and what is said of it to Linux."""

    seed: int
    cases: int = CASES
    default: str = field(init=False)

    def __post_init__(self):
        self.default = random.Random(self.seed).choice(("discard", "bypass"))
        self.world = LinuxWorld(self.seed, self.default)
        self.sas, self.policies = list(self.world.sas), list(self.world.policies)
        self.steps = self.world.steps(self.cases)

    def job(self, pause: float) -> dict:
        ages = iter(range(1, 1 << 20))

        def words(kind: str, what: Sa | Policy) -> list[str]:
            match kind:
                case "add_sa":
                    return [state_words(what)]
                case "remove_sa":
                    return [
                        f"xfrm state delete src {what.source} dst {what.destination} proto esp spi {what.spi:#x}"
                    ]
                case "add_policy":
                    return policy_words(what, what.priority * 100_000 + next(ages))
                case "remove_policy":
                    return policy_words(what, None)

        first = [
            line
            for kind, known in (("add_sa", self.sas), ("add_policy", self.policies))
            for what in known
            for line in words(kind, what)
        ]
        steps = []
        for step in self.steps:
            if isinstance(step, Change):
                steps.append(["ip", words(step.kind, step.what)])
            else:
                steps += [["frame", DEVICES[step.port], each.hex()] for each in step.frames]
        return {
            "devices": list(DEVICES.values()),
            "protocols": PROTOCOLS,
            "commands": [*commands(self.default), ("ip", first)],
            "steps": steps,
            "pause": pause,
        }

    def linux(self, answers: list) -> list[Counter]:
        """What came of each case, of the router's answers."""
        left, found = iter(answers), []
        for step in self.steps:
            if isinstance(step, Change):
                next(left)
                continue
            out = [each for _ in step.frames for each in next(left)]
            found.append(self.seen([(where, bytes.fromhex(data)) for where, data in out]))
        return found

    def seen(self, out: list[tuple[str, bytes]]) -> Counter:
        """What left, as :func:`together` says, opened. The gateway's own messages are none of it."""
        packets = []
        for where, data in out:
            if where == "host":
                packets.append(("host", b"", (), data))
            elif data[12:14] == b"\x08\0":
                reqids, packet = self.opened(data[14:])
                if ip_address(packet[12:16]) not in LOCAL:
                    packets.append((where, data[:6], reqids, packet))
        return Counter(together(packets))

    def opened(self, packet: bytes) -> tuple[tuple[int, ...], bytes]:
        """By SAs of which reqids a packet is protected, the outermost first (none: it is in the clear), and
        what is inside.
        """
        reqids: tuple[int, ...] = ()
        while (
            packet[9] == ESP
            and (sa := self.world.ever.get(int.from_bytes(packet[20:24])))
            and sa.direction == Direction.OUTBOUND
        ):
            assert packet[12:20] == sa.source.packed + sa.destination.packed
            packet, next_header = opened(sa, packet[20:])
            assert next_header == IN_IP
            reqids += (sa.reqid,)
        return reqids, packet


def together(packets: list[tuple]) -> list[tuple]:
    """Of each packet where it left, to which Ethernet address, protected by what, its addresses, protocol,
    payload, time to live and type of service (not the host's, whose link knows neither): whole, or, in
    place of the payload, the pieces that are there.
    """
    found, pieces = [], {}
    for where, mac, reqids, packet in packets:
        at, length, field = 4 * (packet[0] & 15), int.from_bytes(packet[2:4]), int.from_bytes(packet[6:8])
        ends = str(ip_address(packet[12:16])), str(ip_address(packet[16:20]))
        head = (
            where,
            mac.hex(),
            reqids,
            *ends,
            packet[9],
            *((packet[8], packet[1]) if mac else (None, None)),
        )
        if field & 0x3FFF:
            pieces.setdefault((head, packet[4:6]), []).append(
                ((field & 0x1FFF) * 8, bool(field & 0x2000), packet[at:length])
            )
        else:
            found.append((*head, packet[at:length].hex()))
    for (head, _), parts in pieces.items():
        parts.sort()
        data = b"".join(part for _, _, part in parts)
        ends = [offset + len(part) for offset, _, part in parts]
        whole = (
            [0, *ends[:-1]] == [offset for offset, _, _ in parts]
            and [more for _, more, _ in parts].count(False) == 1
            and not parts[-1][1]
        )
        found.append(
            (*head, data.hex() if whole else tuple((offset, part.hex()) for offset, _, part in parts))
        )
    return found


# What ours do


async def gateway(trial: Trial, capabilities=GATEWARE) -> list[Counter]:
    """Control element and model of the gateware; with SOFTWARE, the control element alone."""
    model = SoftGateway(capabilities=replace(capabilities, rules=random.Random(trial.seed).choice((4, 32))))
    port, got = SoftPort(model), []
    control = ControlElement(
        tables=model,
        port=port,
        topology=TOPOLOGY,
        sas=list(trial.sas),
        policies=list(trial.policies),
        clock=lambda: 0.0,
        settings=Settings(default=PolicyAction(trial.default), own_host=True),
    )
    control.on_host = lambda header, one: got.append(("host", one[14:]))
    loop = Loop(model, control, port)
    await control.start()
    found = []
    for step in trial.steps:
        if isinstance(step, Change):
            await getattr(control, step.kind)(step.what)
            continue
        for each in step.frames:
            await loop.feed(step.port, each)
        found.append(
            trial.seen([*((DEVICES[where], one) for where, sent in loop.sent.items() for one in sent), *got])
        )
        for each in (*loop.sent.values(), got):
            each.clear()
    return found


def ask(uml: Uml, folder: Path, trials: list[Trial], pause: float = PAUSE) -> list[list[Counter]]:
    """What Linux makes of the trials."""
    jobs = folder / "jobs"
    jobs.write_text(json.dumps({"modules": MODULES, "jobs": [trial.job(pause) for trial in trials]}))
    uml.run(sys.executable, "-S", "-E", linux_router.__file__, jobs, timeout=600)
    answers = json.loads((folder / "jobs.out").read_text())
    return [trial.linux(each) for trial, each in zip(trials, answers, strict=True)]


def meets_the_device(case: Case) -> bool:
    """What is protected, once the kernel has put it together, and what servers send to the network; the
    rest the kernel does alone.
    """
    if case.port == Port.NETWORK:
        return bool(case.through) and "outer pieces" not in case.kind
    return case.flow[1] not in LOCAL and side(case.flow[1]) == "network"


def plane(trial: Trial) -> list[Counter | None]:
    """A host's TUN device, and the forwarding of the host's kernel around it, which does without Ethernet
    here. None: what does not get there.
    """
    made, onward = Plane(Pad(), policies=list(trial.policies), clock=lambda: 0.0, local=lambda: LOCAL), []
    made.on_network = onward.extend
    for sa in trial.sas:
        made.apply(InstallSa("peer", "child", sa))
    outputs = {
        "add_sa": lambda sa: InstallSa("peer", "child", sa),
        "remove_sa": RemoveSa,
        "add_policy": AddPolicy,
        "remove_policy": RemovePolicy,
    }

    def forwarded(packet: bytes) -> list[tuple[str, bytes]]:
        source, destination, length = (
            ip_address(packet[12:16]),
            ip_address(packet[16:20]),
            int.from_bytes(packet[2:4]),
        )
        strange = any(
            address.is_loopback or address.is_unspecified or address.is_multicast
            for address in (source, destination)
        )
        if (
            strange
            or destination in BROADCASTS
            or source in LOCAL
            or checksum(packet[: 4 * (packet[0] & 15)])
            or len(packet) < length
        ):
            return []
        packet = packet[:length]
        if destination in LOCAL:
            return [("host", packet)]
        if packet[8] <= 1:
            return []
        packet = rewrite(packet, 4 * (packet[0] & 15), ttl=packet[8] - 1)
        if side(destination) == "server":
            return [("server", packet)]
        return [("network", each) for each in made.send(packet)]

    found: list[Counter | None] = []
    for step in trial.steps:
        if isinstance(step, Change):
            made.apply(outputs[step.kind](step.what))
            continue
        if not meets_the_device(step):
            found.append(None)
            continue
        left: list[tuple[str, bytes]] = []
        for each in step.frames:
            packet = each[14:]
            for _ in range(2):  # what was inside may be protected once more
                if packet is not None and packet[9] == ESP and step.port == Port.NETWORK:
                    packet = made.receive(packet)
            left += forwarded(packet) if packet is not None else []
            left += [("network", one) for one in onward]
            onward.clear()
        found.append(
            trial.seen(
                [(where, one if where == "host" else bytes(12) + b"\x08\0" + one) for where, one in left]
            )
        )
    return found


OURS = {
    "gateware": lambda trial: asyncio.run(gateway(trial)),
    "software": lambda trial: asyncio.run(gateway(trial, SOFTWARE)),
    "plane": plane,
}


# Side by side


def reason(name: str, case: Case, linux: Counter, own: Counter) -> str | None:
    """Why a difference is meant; None: it is not. All but the last three are about what Linux lets pass and
    the gateway does not.
    """
    if not own and case.action == "discard" and any(sa.mode == Mode.TRANSPORT for sa in case.through):
        # Linux takes it for clear; RFC 4301 5.2 step 4: it must be what policy says
        return "transport mode that no policy asks for"
    if "pieces" in case.kind and case.through and not case.later and pieces_of(own, linux):
        return "fragments of an SA for some ports"  # which it may not carry unless it is for all (RFC 4301 7)
    if name == "plane" and not own and len(case.through) > 1:
        return "an SA in another one"  # the device takes off one layer, as IKE makes them
    source, destination = case.flow[:2]
    if not own and (
        any(address in network for address in (source, destination) for network in NOBODY)
        or destination == DIRECTED
    ):
        return (
            "an address of nobody"  # RFC 1812 5.3.7, 4.2.2.11, 5.3.5; Linux takes 0/8 and 240/4 for addresses
        )
    if not linux and len(case.through) > 1 and OUTCOMES[case.action] == outcome(own):
        # Linux wants one policy to name all SAs; RFC 4301 appendix E has an entry for each layer, and both
        # were asked.
        return "a layer of its own policy"
    if destination == DIRECTED and OUTCOMES[case.action] == outcome(own) == "protected":
        # Linux takes it for itself; RFC 4301 4.4.1.1 has broadcasts in selectors
        return "a broadcast to a network"
    if not linux and destination.is_multicast and OUTCOMES[case.action] == outcome(own):
        # Linux wants multicast routes, which RFC 4301 says nothing of; the gateway goes by policy and route
        return "multicast"
    return None


def pieces_of(own: Counter, whole: Counter) -> bool:
    """Whether ``own`` has nothing but some of the fragments of ``whole``."""
    if not own:
        return True
    (*head, pieces), *others = own
    return (
        not others
        and isinstance(pieces, tuple)
        and any(
            [*each[:-1]] == head and all(each[-1][2 * at :].startswith(data) for at, data in pieces)
            for each in whole
        )
    )


def bare(counter: Counter) -> Counter:
    return Counter({(each[0], "", *each[2:]): count for each, count in counter.items()})


OUTCOMES = {"discard": "nothing", "bypass": "clear", "protect": "protected", "host": "host"}


def outcome(left: Counter) -> str:
    if not left:
        return "nothing"
    where, _, reqids, *_ = next(iter(left))
    return "host" if where == "host" else "protected" if reqids else "clear"


def compare(trial: Trial, name: str, theirs: list[Counter], ours: list[Counter | None]) -> Counter:
    """Counts what is the same and what is meant to differ.

    Raises
    ------
    Wrong
        Something else differs.
    """
    counts: Counter[str] = Counter()
    cases = [step for step in trial.steps if isinstance(step, Case)]
    for case, linux, own in zip(cases, theirs, ours, strict=True):
        if own is None:
            continue
        linux, own = (bare(linux), bare(own)) if name == "plane" else (linux, own)
        why = f"same, {outcome(own)}" if linux == own else reason(name, case, linux, own)
        if why is None:
            raise Wrong(
                f"{name}, seed {trial.seed}, default {trial.default}: {case}, text {case.action}: Linux {dict(linux)}, ours {dict(own)}"
            )
        counts[f"{name}: {why}"] += 1
        counts[f"case {case.kind}: {outcome(own)}"] += 1
    return counts


def beside(
    uml: Uml, folder: Path, count: int, seed: int, progress: Callable[[int], None] = lambda done: None
) -> Counter:
    """``count`` cases or more in each data plane, world after world from ``seed`` on.

    Raises
    ------
    Wrong
        A data plane did something else than Linux, and not for a :func:`reason`. Linux is asked twice
        before, the second time slowly.
    """
    counts: Counter[str] = Counter()
    seeds = range(seed, seed + -(-count // CASES))
    for first in range(0, len(seeds), BATCH):
        trials = [Trial(each) for each in seeds[first : first + BATCH]]
        for trial, linux in zip(trials, ask(uml, folder, trials), strict=True):
            for name, do in OURS.items():
                if name == "plane" and trial.default != "discard":
                    continue  # it has no other
                ours = do(trial)
                try:
                    counts += compare(trial, name, linux, ours)
                except Wrong:
                    (linux,) = ask(uml, folder, [trial], LONG_PAUSE)
                    counts += compare(trial, name, linux, ours)
        progress((first + len(trials)) * CASES)
    return counts


def fuzz(count: int, seed: int, progress: Callable[[int], None]) -> Counter:
    """In a user-mode Linux of its own. ToolMissing where this machine has none."""
    need(*KERNEL)
    uml = Uml()
    with tempfile.TemporaryDirectory() as folder:
        try:
            uml.boot(Path(folder))
            return beside(uml, Path(folder), count, seed, progress)
        finally:
            uml.close()


if __name__ == "__main__":
    try:
        main(fuzz, __doc__)
    except ToolMissing as error:
        if os.environ.get("SPIGATE_PEERS_REQUIRED") == "1":
            raise
        print(error)
