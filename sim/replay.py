# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate replay``: plays a capture of Linux's IPsec through a gateway, simulated or in software, that
takes the place of the machine that was captured.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from spigate.firmware_py import outputs, terminal
from spigate.firmware_py.captures import capture, sources
from spigate.firmware_py.captures.sources import FILES, Sources
from spigate.firmware_py.control.settings import Miss, Settings
from spigate.firmware_py.errors import InputError, Unsound
from spigate.firmware_py.ipsec.policy import PolicyAction
from spigate.firmware_py.tables.interface import ANY_VLAN, BALANCES, UNLIMITED, CfeSettings
from spigate.firmware_py.words import counted
from spigate.sim import software, waves
from spigate.sim.design import (
    DEFAULT,
    Configuration,
    add_configuration_arguments,
    add_simulator_arguments,
    configuration_from,
)

TESTBENCH = "spigate.sim.replay_testbench"
OUTPUTS = ("server-out.pcap", "network-out.pcap", "punt.pcap", "report.json")
DEFAULT_BALANCE = "flow-hash"
MISSES = tuple(miss.value for miss in Miss)
DATAPLANES = ("gateware", "soft")
PATIENCE = 0xFFFF
"""Clocks in which a DFE finishes a packet, or else counts as dead. All that there are: in a replay none
does for being slow.
"""
CFE = CfeSettings(network_vlan=ANY_VLAN, server_vlan=ANY_VLAN, miss_interval=0, rates=UNLIMITED)
"""A capture does not say of which VLAN a port is: what was captured there was taken."""


def replay(
    given: Path | Sources,
    out: Path,
    *,
    configuration: Configuration = Configuration(),  # noqa: B008 (immutable)
    balance: str = DEFAULT_BALANCE,
    miss: str = "inject",
    simulator: str = "verilator",
    waveform: Path | None = None,
    dataplane: str = "gateware",
) -> dict[str, Any]:
    """Plays the capture in a folder, or of files, and writes :data:`OUTPUTS` to ``out``. Returns the report.

    SAs and policies are those that ``ip`` printed, and so are Ethernet addresses and routes, or they are
    found out (:mod:`spigate.firmware_py.captures.deduced`). Frames go in by their timestamps over both
    files. The gateway starts cold.

    Parameters
    ----------
    balance, miss
        Of :data:`BALANCES` and :data:`MISSES`.
    dataplane
        Of :data:`DATAPLANES`. In software there are no clocks, no simulator and nothing to balance.
    waveform
        File to write a waveform to.

    Raises
    ------
    InputError
        Files are missing, or wrong; or what is to be written cannot be.
    Unsound
        The run was not: a frame is not accounted for, the gateway hung, or broke the rules of a port.
    ToolMissing, BuildFailed, SimulationFailed
        As :mod:`spigate.sim.build` says.
    """
    files = given if isinstance(given, Sources) else sources.find(given)
    read = capture.read(files)  # what is wrong with it is said before anything is built
    if read.sent:
        terminal.tell(f"{counted(read.sent, 'frame')} left out that the captured gateway had sent itself")
    if dataplane == "soft" and waveform is not None:
        raise InputError("in software there are no clocks: a waveform is the gateware's")
    outputs.folder(out)
    outputs.file(waveform)
    for name in OUTPUTS:
        (out / name).unlink(missing_ok=True)
    if dataplane == "soft":
        return software.play(read, Settings(default=PolicyAction.BYPASS, miss=Miss(miss), cfe=CFE), out)
    model = configuration.model(simulator=simulator, waves=waves.format_of(waveform), tell=terminal.tell)
    terminal.tell(f"playing {counted(len(read.frames), 'frame')}")
    model.run(
        TESTBENCH,
        waveform=waveform,
        parameters={
            "files": files.texts(),
            "out": str(out.resolve()),
            "balance": balance,
            "miss": miss,
        },
    )
    configuration.views(waveform)
    return result(out)


def result(out: Path) -> dict[str, Any]:
    """The report in ``out``; raises :class:`Unsound` where it is an error."""
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    if "error" in report:
        raise Unsound(report["error"])
    return report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Plays a capture of Linux's IPsec through a gateway, simulated or in software, "
        "which takes the place of the machine that was captured."
    )
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="DIR",
        help="folder with the files of a capture (docs/captures.md); each may be named by itself instead",
    )
    for name, file in FILES.items():
        parser.add_argument(
            file.option,
            type=Path,
            dest=f"file_{name}",
            metavar="FILE",
            help=f"{file.text} ({' or '.join(file.names)})",
        )
    for side in ("network", "server"):
        parser.add_argument(
            f"--{side}-interface",
            metavar="NAME",
            help=f"the interface that was the {side} port, in a pcapng file and in what ip printed",
        )
    parser.add_argument("--out", type=Path, required=True, help=f"folder for {', '.join(OUTPUTS)}")
    parser.add_argument(
        "--dataplane",
        default=DATAPLANES[0],
        choices=DATAPLANES,
        help="the simulated gateware, or the control element's software path alone (default gateware)",
    )
    add_configuration_arguments(parser)
    parser.add_argument(
        "--balance",
        default=DEFAULT_BALANCE,
        choices=BALANCES,
        metavar="NAME",
        help=f"{', '.join(BALANCES)} (default {DEFAULT_BALANCE}, which keeps clear packets of a flow in "
        f"order)",
    )
    parser.add_argument(
        "--miss",
        default=MISSES[0],
        choices=MISSES,
        help="what becomes of a packet whose SA the gateway has yet to learn (default inject)",
    )
    add_simulator_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the report")


def run(args: argparse.Namespace) -> int:
    configuration = configuration_from(args)
    if args.dataplane == "soft" and configuration != DEFAULT:
        raise InputError("in software there is no gateware: its sizes and its engine are not to be chosen")
    files = sources.find(
        args.folder,
        {name: getattr(args, f"file_{name}") for name in FILES},
        network=args.network_interface,
        server=args.server_interface,
    )
    report = replay(
        files,
        args.out,
        configuration=configuration,
        balance=args.balance,
        miss=args.miss,
        simulator=args.simulator,
        waveform=args.waveform,
        dataplane=args.dataplane,
    )
    if args.json:
        print(json.dumps(report, indent=2))
        return 0
    ports, drops = report["ports"], {reason: count for reason, count in report["drops"].items() if count}
    clocks = f"{report['cycles']} clocks: " if args.dataplane == "gateware" else ""
    print(
        f"{clocks}network {ports['network']['in']} in, {ports['network']['out']} out; "
        f"server {ports['server']['in']} in, {ports['server']['out']} out; {ports['punt']} punted, "
        f"{ports['inject']} injected"
    )
    print(
        f"dropped: {', '.join(f'{count} {reason}' for reason, count in drops.items()) or 'none'}; "
        f"consumed: {', '.join(f'{count} {kind}' for kind, count in report['consumed'].items()) or 'none'}"
    )
    print(f"{args.out}: {', '.join(OUTPUTS)}")
    return 0
