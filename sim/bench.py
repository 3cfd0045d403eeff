# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate bench``: the gateway in clocks, against its requirements; ``--soft``: the software path."""

import argparse
import json
import random
import tempfile
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from rich.console import Console

from spigate.firmware_py import outputs, terminal
from spigate.firmware_py.tables import rows
from spigate.firmware_py.tables.cuckoo import Placement
from spigate.firmware_py.tables.interface import CamEntry, CamKey
from spigate.firmware_py.words import counted
from spigate.sim import bench_soft
from spigate.sim.bench_traffic import SUITES
from spigate.sim.design import Configuration
from spigate.sim.stand_in import StandIn

TESTBENCH = "spigate.sim.bench_testbench"
SIZES = (64, 256, 1400)
DIRECTIONS = ("inbound", "outbound")
CLASSIFIED = ("bypassed", "known", "unknown")
REQUIRED = {("gcm128", 1400): 10, ("cbc128-sha256", 1400): 7.2}
"""Bits a clock of one lane."""
SCALING = 3.6
"""How many times as much four do as one."""
BEYOND = 24
"""Clocks that a packet may cost a DFE beyond its crypto, in steady state. Measured from packet to packet
around an engine that takes a word of 16 bytes a clock; the smallest packets with all that the engine takes,
longer ones without the clocks of their words.
"""
ONE, STAND_IN = (
    Configuration(beat_bytes=16, dfes=1, lanes=1),
    Configuration(beat_bytes=16, dfes=1, lanes=1, stand_in=True),
)
DFES = {count: Configuration(beat_bytes=16, dfes=count, lanes=1) for count in (1, 2, 4)}
LANES = {count: Configuration(beat_bytes=16, dfes=1, lanes=count) for count in (1, 2, 4)}
SYNTHESISED = Configuration(beat_bytes=8, dfes=2, lanes=1)
"""What ``spigate synth`` takes unless told otherwise: here bits a clock and a clock belong together."""
SYNTHESISED_SUITES = ("gcm128", "cbc128-sha256")


def core(configuration: Configuration) -> dict[str, int]:
    """The parameters that a core is known by, in the results of ``synth`` too."""
    return {name: getattr(configuration, name) for name in ("beat_bytes", "dfes", "lanes")}


@dataclass(frozen=True)
class Figure:
    """One line of the table. ``passed`` is None where nothing is required.

    Members
    -------
    core : dict or None
        The parameters of the core, where the figure is of one that is synthesised too.
    size : int or None
        Bytes of a packet, where ``core`` is given.
    """

    name: str
    value: float
    unit: str
    required: str = ""
    passed: bool | None = None
    core: dict[str, int] | None = None
    size: int | None = None


def at_least(name: str, value: float, unit: str, limit: float | None) -> Figure:
    """A figure that must be ``limit`` or more, where there is a limit."""
    return (
        Figure(name, value, unit)
        if limit is None
        else Figure(name, value, unit, f"{limit:g} or more", value >= limit)
    )


def at_most(name: str, value: float, unit: str, limit: float) -> Figure:
    """A figure that must be ``limit`` or less."""
    return Figure(name, value, unit, f"{limit:g} or less" if limit else "none", value <= limit)


def measure(configuration: Configuration, jobs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Runs ``jobs`` (see the testbench) on one gateway; results by name."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        configuration.model().run(
            TESTBENCH, parameters={"jobs": jobs, "stand_in": configuration.stand_in, "out": str(out)}
        )
        results: dict[str, Any] = json.loads(out.read_text())
        return results


def stream(
    suite: str, size: int, packets: int, *, direction: str = "inbound", sas: int = 1, repeat: int = 0
) -> dict[str, Any]:
    return {
        "kind": "stream",
        "suite": suite,
        "size": size,
        "packets": packets,
        "direction": direction,
        "sas": sas,
        "repeat": repeat,
    }


def plan() -> dict[Configuration, dict[str, dict[str, Any]]]:
    """Jobs by name, for each gateway."""
    one = {"registers": {"kind": "registers", "suite": "cbc128-sha256", "direction": "inbound", "sas": 1}}
    for direction in DIRECTIONS:
        one |= {
            f"{suite} {size} {direction}": stream(
                suite, size, 16 if size == 1400 else 32, direction=direction
            )
            for suite in SUITES
            for size in SIZES
        }
        one |= {
            f"latency {suite} {size} {direction}": {
                "kind": "latency",
                "suite": suite,
                "size": size,
                "direction": direction,
                "sas": 1,
            }
            for suite in ("gcm128", "cbc128-sha256")
            for size in (64, 1400)
        }
    jobs = {ONE: one}
    for count, configuration in DFES.items():
        jobs.setdefault(configuration, {})[f"{count} DFEs"] = stream(
            "cbc128-sha256", 1400, 192, sas=64, repeat=7
        )
    jobs[DFES[4]] |= {what: {"kind": "classify", "what": what} for what in CLASSIFIED}
    for count, configuration in LANES.items():
        jobs.setdefault(configuration, {})[f"{count} lanes"] = stream("cbc128-sha256", 1400, 96, repeat=5)
    jobs[SYNTHESISED] = {
        f"synthesised {suite} {size} {direction}": stream(suite, size, 96, direction=direction, sas=16)
        for suite in SYNTHESISED_SUITES
        for size in SIZES
        for direction in DIRECTIONS
    }
    jobs[STAND_IN] = {
        f"beyond {size} {direction}": stream("gcm128", size, 96 if size == 64 else 40, direction=direction)
        for size in SIZES
        for direction in DIRECTIONS
    }
    return jobs


def cam_lookups() -> list[Figure]:
    """The CFE's CAM, asked in every clock for keys that it holds and keys that it does not."""
    from amaranth.sim import Simulator

    from spigate.hdl.cfe.cam import Cam
    from spigate.hdl.contract.enums import Table as GatewayTable

    cam, source, placement = Cam(), random.Random(1), Placement(1024)
    keys = [
        CamKey(IPv4Address(source.getrandbits(32)), spi) for spi in source.sample(range(256, 1 << 32), 1000)
    ]
    held = {key: CamEntry(key, at % 8, at, at % 64) for at, key in enumerate(keys[:500])}
    writes = [write for entry in held.values() for write in placement.add(entry)]
    source.shuffle(keys)
    answers, clocks = [], []

    async def testbench(ctx: Any) -> None:
        for write in writes:
            words = rows.cam(write.entry)
            packed = [
                sum(word << 32 * at for at, word in enumerate(words[first : first + 4])) for first in (0, 4)
            ]
            ctx.set(cam.write.payload, {"table": GatewayTable.CAM, "index": write.index, "rows": packed})
            ctx.set(cam.write.valid, 1)
            await ctx.tick().until(cam.write.ready)
        ctx.set(cam.write.valid, 0)
        for at in range(len(keys) + cam.LATENCY):
            ctx.set(cam.start, at < len(keys))
            if at < len(keys):
                ctx.set(
                    cam.key,
                    {
                        "destination": int(keys[at].destination),
                        "spi": keys[at].spi,
                        "protocol": keys[at].protocol,
                        "ipv6": 0,
                    },
                )
            _, _, done, result = await ctx.tick().sample(cam.done, cam.result)
            if done:
                clocks.append(at)
                answers.append((result.dfe, result.sa, result.route) if result.hit else None)

    simulator = Simulator(cam)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()
    expected = [(entry.dfe, entry.sa, entry.route) if (entry := held.get(key)) else None for key in keys]
    wrong = sum(answer != right for answer, right in zip(answers, expected, strict=True))
    rate = len(clocks) / (clocks[-1] - clocks[0] + 1)
    return [
        at_least(f"CAM, {len(keys)} keys back to back, half of them there", rate, "lookups a clock", 1),
        at_most("CAM, wrong answers", wrong, "", 0),
    ]


def figures(found: dict[str, Any]) -> list[Figure]:
    """What the results of all jobs of :func:`plan` mean."""
    table = [
        at_most(f"CFE, frames of 64 bytes, {name}", found[what], "clocks a packet", 16)
        for what, name in zip(CLASSIFIED, ("bypassed", "known SPI", "unknown SPI"), strict=True)
    ]
    for suite in SUITES:
        for size in SIZES:
            for direction in DIRECTIONS:
                rate = 8 * size / found[f"{suite} {size} {direction}"]["clocks"]
                table.append(
                    at_least(
                        f"one lane, {suite}, {size} bytes, {direction}",
                        rate,
                        "bits a clock",
                        REQUIRED.get((suite, size)),
                    )
                )
    for what, counts, job in (("64 SAs", DFES, "DFEs"), ("one SA", LANES, "lanes")):
        results = {count: found[f"{count} {job}"] for count in counts}
        for count, result in results.items():
            name = f"{what}, cbc128-sha256, 1400 bytes, {count} {job if count > 1 else job[:-1]}"
            table.append(Figure(name, 8 * 1400 / result["clocks"], "bits a clock"))
            if count > 1:
                factor = results[1]["clocks"] / result["clocks"]
                table.append(
                    at_least(f"{name}: as much as one", factor, "times", SCALING if count == 4 else None)
                )
        misplaced, repeats, replays, others = (
            sum(result[name] for result in results.values())
            for name in ("misplaced", "repeats", "replays", "other drops")
        )
        table += [
            at_most(f"{what}, packets out of their order", misplaced, "", 0),
            at_most(f"{what}, of {repeats} replays not dropped", repeats - replays, "", 0),
            at_most(f"{what}, other packets dropped", others, "", 0),
        ]
    for size in SIZES:
        for direction in DIRECTIONS:
            clocks = found[f"beyond {size} {direction}"]["clocks"] - (
                size // StandIn.word_bytes if size > SIZES[0] else 0
            )
            table.append(
                at_most(f"a packet of {size} bytes beyond its crypto, {direction}", clocks, "clocks", BEYOND)
            )
    table += [
        Figure(
            f"latency, {suite}, {size} bytes, {direction}",
            found[f"latency {suite} {size} {direction}"],
            "clocks",
        )
        for suite in ("gcm128", "cbc128-sha256")
        for size in (64, 1400)
        for direction in DIRECTIONS
    ]
    table += synthesised(found)
    bursts, words = found["registers"]
    return [
        *table,
        at_most("writes for one SA, bursts", bursts, "", 1),
        at_most("writes for one SA, words", words, "", 64),
    ]


def synthesised(found: dict[str, dict[str, Any]]) -> list[Figure]:
    """The figures of the core that ``spigate synth`` takes, which its clock belongs to."""
    return [
        Figure(
            f"{SYNTHESISED.dfes} DFEs, {SYNTHESISED.beat_bytes} bytes a beat, 16 SAs, {suite}, {size} bytes, "
            f"{direction}",
            8 * size / found[f"synthesised {suite} {size} {direction}"]["clocks"],
            "bits a clock",
            core=core(SYNTHESISED),
            size=size,
        )
        for suite in SYNTHESISED_SUITES
        for size in SIZES
        for direction in DIRECTIONS
    ]


def bench(console: Console) -> list[Figure]:
    """All measurements; gateways are built where they are not yet."""
    with console.status("CAM"):
        table = cam_lookups()
    return table + figures(work(console, plan()))


def work(console: Console, plan: dict[Configuration, dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Results of the jobs, by name."""
    found: dict[str, Any] = {}
    for configuration, jobs in plan.items():
        engines = (
            "a stand-in for the engine" if configuration.stand_in else counted(configuration.lanes, "lane")
        )
        with console.status(f"{counted(configuration.dfes, 'DFE')}, {engines}"):
            found |= measure(configuration, jobs)
    return found


COLUMNS = ("figure", "measured", "", "required", "")


def shown(value: float) -> str:
    """A value with as many as two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def cells(figure: Figure) -> list[str]:
    """A row of the table."""
    return [
        figure.name,
        shown(figure.value),
        figure.unit,
        figure.required,
        {None: "", True: "pass", False: "FAIL"}[figure.passed],
    ]


def markdown(table: list[Figure]) -> str:
    """The table for documentation."""
    lines = [COLUMNS, ("---", "---:", "---", "---", "---"), *map(cells, table)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Measures the gateway in clocks. Ends with 1 where a requirement is missed."
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--soft", action="store_true", help="the software path instead, in packets a second")
    which.add_argument(
        "--synthesised", action="store_true", help="only the core that synth takes unless told otherwise"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")


def _write(args: argparse.Namespace, figures: list[dict[str, Any]], table: str) -> None:
    for path, text in ((args.json, json.dumps(figures, indent=2) + "\n"), (args.markdown, table)):
        if path:
            path.write_text(text)


def run(args: argparse.Namespace) -> int:
    console = terminal.console()
    for path in (args.json, args.markdown):
        outputs.file(path)
    if args.soft:
        rates = bench_soft.bench(console)
        bench_soft.show(rates)
        _write(args, bench_soft.plain(rates), bench_soft.markdown(rates))
        return 0
    if args.synthesised:
        found = synthesised(work(console, {SYNTHESISED: plan()[SYNTHESISED]}))
    else:
        found = bench(console)
    names = ("figure", "measured", "unit", "required", "result")
    for line in terminal.table(
        [dict(zip(names, cells(figure), strict=True)) for figure in found], terminal.width()
    ):
        print(line)
    _write(args, [asdict(figure) for figure in found], markdown(found))
    return int(any(figure.passed is False for figure in found))
