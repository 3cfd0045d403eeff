# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate demo``: FIG. 2 of WO 02/062033: one CFE, three DFEs, three servers, a cold start on mixed
traffic, step by step.
"""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from spigate.firmware_py import outputs, terminal
from spigate.firmware_py.captures import pcap
from spigate.firmware_py.captures.frames import Captured
from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.policy import PolicyAction
from spigate.firmware_py.tables.interface import UNLIMITED, CfeSettings
from spigate.hdl.contract.enums import Balance
from spigate.sim import reference, traffic, waves
from spigate.sim.build import SIMULATORS, can_write_fst
from spigate.sim.design import Configuration
from spigate.sim.replay import PATIENCE, result
from spigate.sim.software import FILES, REPORT

TESTBENCH = "spigate.sim.demo_testbench"
CONFIGURATION = Configuration(beat_bytes=16, dfes=3, lanes=1)
SETTINGS = Settings(
    default=PolicyAction.BYPASS,
    cfe=CfeSettings(balance=Balance.FLOW_HASH, patience=PATIENCE, miss_interval=0, rates=UNLIMITED),
)
"""Clear packets of a flow stay in order only where all of them take the way through one DFE."""
CAPTURES = Path("tests/data/captures")
WAVE_FRAMES = 6
"""Frames in the waveform: the cold start. All of them would make gigabytes."""
WAVEFORM = "cold-start"


def steps(report: dict[str, Any]) -> list[tuple[str, str, int]]:
    """What happened, along the steps of the application's figures 3A and 3B: number, words, packets."""
    cfe, dfes, ports = report["cfe"], report["dfes"], report["ports"]
    punts, drops = report["punts"], report["drops"]

    def total(name: str) -> int:
        return sum(dfe[name] for dfe in dfes)

    return [
        ("302", "came in at the network port", ports["network"]["in"]),
        ("302", "came in at the server port", ports["server"]["in"]),
        ("304-306", "classified by clear text (rules)", cfe["clear"]),
        ("308-310", "encrypted, SPI known: the CAM's way", cfe["hits"]),
        ("312", "unknown to CAM or rules: the balancer's way", cfe["misses"]),
        ("314-318", "clear, allowed, forwarded", total("bypassed")),
        ("320", "dropped: policy", drops["policy"]),
        ("322-326", "decrypted, verified, forwarded", total("decrypted")),
        *(("328-330", f"punted: {reason}", count) for reason, count in punts.items()),
        *(("332-334", f"programmed: {table}", count) for table, count in report["programmed"].items()),
        ("336", "injected", ports["inject"]),
        ("338-342", "encrypted", total("encrypted")),
        *(
            ("", f"dropped: {reason}", count)
            for reason, count in drops.items()
            if count and reason != "policy"
        ),
        *(
            ("", f"consumed by the control element: {kind}", count)
            for kind, count in report["consumed"].items()
        ),
        ("", "sent at the network port", ports["network"]["out"]),
        ("", "sent at the server port", ports["server"]["out"]),
    ]


def print_report(console: Console, report: dict[str, Any], servers: dict[str, int]) -> None:
    """The tables of a run."""
    console.print("What happened, by the steps of WO 02/062033:")
    rows = [
        *steps(report),
        *(("", f"of these to server {server}", count) for server, count in servers.items()),
    ]
    happened = [{"step": number, "what": words, "packets": count} for number, words, count in rows]
    for line in ["", *terminal.table(happened, terminal.width()), ""]:
        console.print(line, highlight=False, soft_wrap=True)
    load = [
        {
            "DFE": at,
            **{
                name: dfe[name]
                for name in ("packets", "bytes", "decrypted", "encrypted", "bypassed", "punts")
            },
            "busy": f"{dfe['busy_cycles'] / report['cycles']:.0%}",
            "bits a clock": f"{8 * dfe['bytes'] / max(dfe['busy_cycles'], 1):.2f}",
        }
        for at, dfe in enumerate(report["dfes"])
    ]
    for line in terminal.table(load, terminal.width()):
        console.print(line, highlight=False, soft_wrap=True)
    total = sum(dfe["bytes"] for dfe in report["dfes"])
    console.print(
        f"{report['cycles']} clocks, {8 * total / report['cycles']:.2f} bits a clock in all "
        f"(while the control element answers, no frame is fed)"
    )


def demo(console: Console, out: Path, captures: Path, simulator: str) -> None:
    """Runs the demo and writes everything to ``out``.

    Raises
    ------
    Unsound
        The gateway did not do what the reference model does.
    """
    if not (captures / traffic.TUNNELS).is_dir():
        raise InputError(f"{captures} must hold the captures {traffic.TUNNELS} and {traffic.REPLAYED}")
    outputs.folder(out)
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    with bars:
        making = bars.add_task("traffic", total=1)
        mix = traffic.fig_2(captures)
        pcap.write(out / "in.pcap", [Captured(arrival.time * 1000, arrival.frame) for arrival in mix.frames])
        bars.update(making, completed=1)
        exporting = bars.add_task("gateway to Verilog", total=1)
        CONFIGURATION.verilog()
        bars.update(exporting, completed=1)
        compiling = bars.add_task("Verilog to a simulation (kept for the next time)", total=1)
        fst = simulator != SIMULATORS[0] or can_write_fst()
        waveform = (out / WAVEFORM).with_suffix(".fst" if fst else ".vcd")
        model = CONFIGURATION.model(simulator=simulator, waves=waves.format_of(waveform))
        bars.update(compiling, completed=1)

        def play(title: str, frames: int, folder: Path, waveform: Path | None = None) -> dict[str, Any]:
            folder.mkdir(parents=True, exist_ok=True)
            task = bars.add_task(title, total=frames)
            model.run(
                TESTBENCH,
                waveform=waveform,
                on_progress=lambda done, _: bars.update(task, completed=done),
                parameters={
                    "captures": str(captures.resolve()),
                    "frames": frames,
                    "out": str(folder.resolve()),
                },
            )
            bars.update(task, completed=frames)
            return result(folder)

        play("cold start, with a waveform", WAVE_FRAMES, out / "cold-start", waveform)
        CONFIGURATION.views(waveform)
        report = play("all frames", len(mix.frames), out)
        comparing = bars.add_task("the same in the reference model", total=1)
        expected = reference.expected(mix, SETTINGS, dfes=CONFIGURATION.dfes)
        sent = {port: [item.frame for item in pcap.read(out / name)] for port, name in FILES.items()}
        bars.update(comparing, completed=1)
    servers = {
        server: sum(
            frame[:6] == bytes.fromhex(mac.replace(":", "")) for frames in sent.values() for frame in frames
        )
        for server, mac in traffic.SERVERS.items()
    }
    print_report(console, report, servers)
    reference.compare(sent, report, expected)
    console.print(
        f"Every packet is as the reference model made it: {sum(map(len, sent.values()))} frames, bit by bit "
        f"(but for the Identification, in which each DFE counts for itself)."
    )
    console.print(
        f"{out}: in.pcap, {', '.join(FILES.values())}, punt.pcap, {REPORT}, {waveform.name} (the first "
        f"{WAVE_FRAMES} frames)"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__.partition(": ")[2]
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("build/demo"),
        help="folder for pcaps, waveform and report (default build/demo)",
    )
    parser.add_argument(
        "--captures",
        type=Path,
        default=CAPTURES,
        metavar="DIR",
        help=f"folder of captures (default {CAPTURES})",
    )
    parser.add_argument("--simulator", default=SIMULATORS[0], choices=SIMULATORS, help="default verilator")


def run(args: argparse.Namespace) -> int:
    demo(terminal.console(), args.out, args.captures, args.simulator)
    return 0
