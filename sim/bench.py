"""``spigate bench``: the gateway in clocks, against its requirements."""
import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from spigate.sim.gateway import Configuration

TESTBENCH = "spigate.sim.bench_testbench"
SUITES = ("gcm128", "gcm256", "cbc128-sha256", "cbc256-sha256", "cbc128-sha1", "null-sha256")
SIZES = (64, 256, 1400)
REQUIRED = {("gcm128", 1400): 10, ("cbc128-sha256", 1400): 7.2}
"""Bits a clock of one lane."""
SCALING = 3.6
"""How many times as much four do as one."""


@dataclass(frozen=True)
class Figure:
    """One line of the table. ``passed`` is None where nothing is required."""

    name: str
    value: float
    unit: str
    required: str = ""
    passed: bool | None = None


def measure(configuration: Configuration, jobs: dict[str, dict]) -> dict:
    """Runs measurements (see the testbench) on one gateway; results by name."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        configuration.model().run(TESTBENCH, parameters={"jobs": jobs, "stand_in": configuration.stand_in, "out": str(out)})
        return json.loads(out.read_text())


def at_least(name: str, value: float, unit: str, limit: float | None) -> Figure:
    """A figure that must be ``limit`` or more."""
    return Figure(name, value, unit) if limit is None else Figure(name, value, unit, f"{limit:g} or more", value >= limit)


def at_most(name: str, value: float, unit: str, limit: float) -> Figure:
    """A figure that must be ``limit`` or less."""
    return Figure(name, value, unit, f"{limit:g} or less", value <= limit)


def stream(suite: str, size: int, packets: int, sas: int) -> dict:
    return {"kind": "stream", "suite": suite, "size": size, "packets": packets, "sas": sas}


def figures(console: Console) -> list[Figure]:
    """All measurements, the gateways built where they are not yet."""
    found: list[Figure] = []

    def run(title: str, configuration: Configuration, jobs: dict[str, dict]) -> dict:
        with console.status(title):
            return measure(configuration, jobs)

    one = Configuration(beat_bytes=16, dfes=1, lanes=1)
    jobs = {"classify": {"kind": "classify"}, "registers": {"kind": "registers", "suite": "cbc128-sha256", "sas": 1}}
    jobs |= {f"latency {suite} {size}": {"kind": "latency", "suite": suite, "size": size, "sas": 1}
             for suite in ("gcm128", "cbc128-sha256") for size in (64, 1400)}
    jobs |= {f"{suite} {size}": stream(suite, size, 16 if size == 1400 else 32, 1) for suite in SUITES for size in SIZES}
    result = run("one DFE, one lane", one, jobs)
    found.append(at_most("CFE, 64-byte frames, 16 bytes a beat", result["classify"], "clocks a packet", 16))
    for suite in SUITES:
        for size in SIZES:
            rate = 8 * size / result[f"{suite} {size}"]
            found.append(at_least(f"one lane, {suite}, {size} bytes", rate, "bits a clock", REQUIRED.get((suite, size))))
    found += [Figure(f"latency, {suite}, {size} bytes", result[f"latency {suite} {size}"], "clocks")
              for suite in ("gcm128", "cbc128-sha256") for size in (64, 1400)]
    bursts, words = result["registers"]
    found.append(at_most("writes for one SA, bursts", bursts, "", 1))
    found.append(at_most("writes for one SA, words", words, "", 64))

    job = {"stream": stream("cbc128-sha256", 1400, 192, 64)}
    base = run("64 SAs, one DFE", one, job)["stream"]
    for dfes in (2, 4):
        factor = base / run(f"64 SAs, {dfes} DFEs", Configuration(beat_bytes=16, dfes=dfes, lanes=1), job)["stream"]
        found.append(at_least(f"64 SAs, cbc128-sha256, 1400 bytes: {dfes} DFEs to one", factor, "times", SCALING if dfes == 4 else None))
    job = {"stream": stream("cbc128-sha256", 1400, 64, 1)}
    base = run("one SA, one lane", one, job)["stream"]
    for lanes in (2, 4):
        factor = base / run(f"one SA, {lanes} lanes", Configuration(beat_bytes=16, dfes=1, lanes=lanes), job)["stream"]
        found.append(at_least(f"one SA, cbc128-sha256, 1400 bytes: {lanes} lanes to one", factor, "times", SCALING if lanes == 4 else None))

    beyond = run("an engine of a block a clock", Configuration(beat_bytes=16, dfes=1, lanes=1, stand_in=True),
                 {"stream": stream("gcm128", 64, 100, 1)})["stream"]
    found.append(at_most("a packet of 64 bytes beyond its crypto, steady state", beyond, "clocks", 24))
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Measures the gateway in clocks. Ends with 1 where a requirement is missed."
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")


def run(args: argparse.Namespace) -> int:
    console = Console()
    found = figures(console)
    table = Table()
    for name, justify in (("figure", "left"), ("measured", "right"), ("", "left"), ("required", "left"), ("", "left")):
        table.add_column(name, justify=justify)
    for figure in found:
        verdict = {None: "", True: "pass", False: "FAIL"}[figure.passed]
        table.add_row(figure.name, f"{figure.value:.2f}".rstrip("0").rstrip("."), figure.unit, figure.required, verdict)
    console.print(table)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps([figure.__dict__ for figure in found], indent=2) + "\n")
    return int(any(figure.passed is False for figure in found))
