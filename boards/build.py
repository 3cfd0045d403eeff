# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Bitstreams, with open tools from PyPI alone; ``spigate build``."""

import argparse
import importlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from spigate.boards import lpf, mac, synth
from spigate.boards.pins import Board
from spigate.boards.profiles import BOARDS, PROFILES, Profile
from spigate.boards.tools import ToolFailed, call, versions
from spigate.firmware_py import terminal
from spigate.firmware_py.errors import InputError
from spigate.hdl.board.clocks import TX_MHZ
from spigate.hdl.board.top import Top
from spigate.hdl.contract.parameters import ENGINES, check
from spigate.hdl.crypto.interface import engine_named
from spigate.hdl.gateway import Gateway
from spigate.hdl.net.memory import ECP5
from spigate.sim.cache import cached, digest

CORE_NET, TX_NET = "clk", "clocks.tx_clk"
"""Nets of the PLL's outputs."""
BUFFER = "$TRELLIS_IO_IN"
"""What nextpnr appends to a port's name for the net behind its pin."""
CELLS = {"LUT": "TRELLIS_COMB", "FF": "TRELLIS_FF", "EBR": "DP16KD", "LUT RAM": "TRELLIS_RAMW"}


class NotMet(ToolFailed):
    """A constraint on a clock is not met, or was not applied."""


@dataclass(frozen=True)
class Clock:
    """A clock of the design, in MHz: what was asked for and what place and route reached."""

    name: str
    asked: float
    reached: float


@dataclass(frozen=True)
class Routed:
    """A design that was placed and routed with one seed. ``used`` and ``there`` are cells by
    :data:`CELLS`' names.
    """

    seed: int
    folder: Path
    clocks: tuple[Clock, ...]
    used: dict[str, int]
    there: dict[str, int]

    @property
    def margin(self) -> float:
        """The least of what clocks reached, divided by what was asked; 1 and more: all is met."""
        return min(clock.reached / clock.asked for clock in self.clocks)


def board_named(name: str) -> Board:
    """Raises InputError where there is no such board; the message has those that there are."""
    if name not in BOARDS:
        raise InputError(f"board must be one of {', '.join(BOARDS)}, not {name!r}")
    board: Board = importlib.import_module(BOARDS[name]).BOARD
    return board


def profile_named(board: str, name: str | None) -> tuple[str, Profile]:
    """The profile of that name, or the board's first one, with its name. Raises InputError likewise."""
    profiles = PROFILES[board]
    name = name or next(iter(profiles))
    if name not in profiles:
        raise InputError(f"profile must be one of {', '.join(profiles)}, not {name!r}")
    return name, profiles[name]


def top(board: Board, profile: Profile, gateway: Gateway | None) -> Top:
    """The design of a board, before it is Verilog."""
    return Top(
        gateway,
        beat_bytes=profile.beat_bytes,
        input_mhz=board.clock_mhz,
        core_mhz=profile.mhz,
        baud=profile.baud,
        phy_resets=len(board.phy_resets()),
        management=tuple(bus.addresses for bus in board.management()),
        leds=len(board.leds.sites),
        button=board.reset_n is not None,
        vlans=None if board.server else profile.vlans,
    )


def design(board: Board, profile: Profile) -> str:
    """The Verilog of the whole design, its top module ``top``."""
    gateway = None
    if profile.core is not None:
        check(profile.parameters(), ECP5)
        gateway = Gateway(**profile.parameters(), engine=engine_named(profile.engine))
    return synth.source(top(board, profile, gateway)) + mac.mac(board.delays).read_text()


def asked(board: Board, profile: Profile) -> dict[str, float]:
    """What the design asks of each of its clocks, in MHz, by the name of its net."""
    pins = lpf.clocks(board)
    found = {f"{name}{BUFFER}": mhz for name, mhz in pins.items() if name != lpf.CLOCK}
    return {**found, CORE_NET: profile.mhz, TX_NET: TX_MHZ}


def timing(report: Mapping[str, Any], wanted: Mapping[str, float]) -> tuple[Clock, ...]:
    """The clocks of nextpnr's report.

    Raises
    ------
    NotMet
        A clock has another constraint than it should, which is how nextpnr tells of a constraint that it did
        not apply; or it is not in the report, or one is that nobody asked for.
    """
    found = {re.sub(r"^\$glbnet\$", "", name): clock for name, clock in report["fmax"].items()}
    if missing := sorted(set(wanted) - set(found)):
        raise NotMet(f"no timing of {', '.join(missing)}; nextpnr timed {', '.join(sorted(found))}")
    if more := sorted(set(found) - set(wanted)):
        raise NotMet(f"nothing was asked of the clock {', '.join(more)}")
    for name, mhz in wanted.items():
        if abs(found[name]["constraint"] - mhz) > 0.001 * mhz:
            raise NotMet(
                f"the constraint on {name} was not applied: nextpnr took {found[name]['constraint']:.2f} MHz "
                f"for {mhz:g}"
            )
    return tuple(Clock(name, mhz, found[name]["achieved"]) for name, mhz in wanted.items())


def route(
    board: Board,
    profile: Profile,
    netlist: Path,
    preferences: str,
    seed: int,
    tell: Callable[[str], None] = lambda text: None,
) -> Routed:
    """Places and routes a netlist for a board and packs the bitstream; what was done before is found again.

    Raises
    ------
    ToolFailed
        A tool did not like it.
    NotMet
        As of :func:`timing`. That a clock is too slow raises nothing here.
    """
    arguments = [
        f"--{board.device}",
        *("--package", board.package, "--speed", str(board.speed), "--seed", str(seed)),
        *("--lpf", "top.lpf", "--textcfg", "top.config"),
        *synth.PLACE_AND_ROUTE,
    ]

    def hear(line: str) -> None:
        for pattern, text in synth.PROGRESS.items():
            if found := re.search(pattern, line):
                tell(text.format(*found.groups()))

    with cached(f"boards/{digest(netlist.parent.name, preferences, arguments, versions())}") as (
        folder,
        scratch,
    ):
        if scratch:
            (scratch / "top.lpf").write_text(preferences)
            synth.place_and_route(scratch, netlist, arguments, hear)
            tell("packing the bitstream")
            pack = ("--compress", "--input", "top.config", "--bit", "top.bit", "--svf", "top.svf")
            call("ecppack", *pack, folder=scratch)
            (scratch / "top.config").unlink()
    report = json.loads((folder / "report.json").read_text())
    cells = {name: report["utilization"][cell] for name, cell in CELLS.items()}
    return Routed(
        seed,
        folder,
        timing(report, asked(board, profile)),
        {name: each["used"] for name, each in cells.items()},
        {name: each["available"] for name, each in cells.items()},
    )


def build(
    board: Board,
    profile: Profile,
    text: str,
    seeds: range,
    tell: Callable[[str], None] = lambda text: None,
) -> Routed:
    """The best of ``seeds`` of the Verilog ``text``; raises as :func:`route`."""
    tell("synthesis")
    netlist = synth.netlist(text)
    preferences = lpf.lpf(board)
    found = []
    for seed in seeds:

        def hear(step: str, seed: int = seed) -> None:
            tell(f"seed {seed}: {step}")

        found.append(route(board, profile, netlist, preferences, seed, hear))
    return max(found, key=lambda each: each.margin)


def write(board: Board, name: str, profile: Profile, text: str, routed: Routed, folder: Path) -> list[Path]:
    """Puts the bitstream of the Verilog ``text`` in both forms, and what went into it, into ``folder``;
    returns the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{board.name}-{name}"
    files = [folder / f"{stem}{suffix}" for suffix in (".bit", ".svf", ".json")]
    for path in files[:2]:
        shutil.copy(routed.folder / f"top{path.suffix}", path)
    made = {
        "board": board.name,
        "profile": {"name": name, **asdict(profile)},
        "sources": digest(text),
        "pins": digest(lpf.lpf(board)),
        "tools": [*versions(), *mac.versions()],
        "seed": routed.seed,
        "clocks": {clock.name: {"asked": clock.asked, "reached": clock.reached} for clock in routed.clocks},
        "used": routed.used,
    }
    files[2].write_text(json.dumps(made, indent=1) + "\n")
    return files


def show(console: Console, board: Board, name: str, routed: Routed) -> None:
    """Prints what it takes and how fast it is."""
    table = Table(title=f"{board.text}, {name}, seed {routed.seed}")
    for column in ("", "used", "there are"):
        table.add_column(column, justify="right" if column else "left")
    for cell in CELLS:
        table.add_row(cell, f"{routed.used[cell]:,}", f"{routed.there[cell]:,}")
    console.print(table)
    table = Table()
    for column in ("clock", "asked, MHz", "reached, MHz"):
        table.add_column(column, justify="left" if column == "clock" else "right")
    for clock in routed.clocks:
        table.add_row(clock.name.removesuffix(BUFFER), f"{clock.asked:g}", f"{clock.reached:.1f}")
    console.print(table)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Builds a board's bitstream with yosys and nextpnr from PyPI. What is done is kept: called again, it "
        "goes on from there."
    )
    parser.add_argument("board", metavar="BOARD", help=", ".join(BOARDS))
    parser.add_argument(
        "--profile", metavar="NAME", help="what is built: boards/profiles.py (default: the board's first one)"
    )
    parser.add_argument("--engine", choices=ENGINES, metavar="NAME", help="instead of the profile's engine")
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="try so many, and keep the best (default 1)"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("build/bitstreams"),
        metavar="FOLDER",
        help="default %(default)s",
    )


def run(args: argparse.Namespace) -> int:
    console = terminal.console()
    board = board_named(args.board)
    name, profile = profile_named(args.board, args.profile)
    if args.seeds < 1:
        raise InputError(f"--seeds must be 1 or more, not {args.seeds}")
    if args.engine:
        profile = replace(profile, engine=args.engine)
    with console.status("conversion to Verilog") as status:
        text = design(board, profile)
        routed = build(board, profile, text, range(1, args.seeds + 1), status.update)
    show(console, board, name, routed)
    slow = [clock for clock in routed.clocks if clock.reached < clock.asked]
    for clock in slow:
        console.print(
            f"{clock.name.removesuffix(BUFFER)}: {clock.reached:.2f} MHz is less than {clock.asked:g}"
        )
    if slow:
        return 1
    for path in write(board, name, profile, text, routed, args.output):
        console.print(str(path))
    return 0
