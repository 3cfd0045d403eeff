# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``python -m tests.sim.floods``: junk of every kind at line rate, at each port, with a slow host, and what
it costs others.

IKE to an own address must come up whole; packets of another DFE must take as long as they do when nothing
else comes, and a fifth more.
"""

import argparse
import json
import tempfile
from pathlib import Path

from spigate.sim.design import Configuration

BENCH = "tests.sim.bench_floods"
CONFIGURATION = Configuration(beat_bytes=16, dfes=3, lanes=2)
WHOLE = {
    "ports": ["network", "server"],
    "probes": 30,
    "lead": 4000,
    "settle": 30_000,
    "patience": 20_000,
    "line": 10,
}
"""``line``: bits a clock of each port's line, 1 Gbit/s at 100 MHz; 0: as fast as the gateway takes frames."""
LATER = 1.2
"""How much longer than when idle."""


def measure(configuration: Configuration = CONFIGURATION, **changes) -> dict:
    """What :mod:`tests.sim.bench_floods` finds."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        configuration.model().run(BENCH, parameters={**WHOLE, **changes, "out": str(out)})
        return json.loads(out.read_text())


def faults(found: dict) -> list[str]:
    """What is not as it must be."""
    wrong = []
    for name, ports in found.items():
        if name in ("events", "drops"):
            continue
        for port, result in ports.items():
            idle = found["idle"][port]
            sent, came = result["ike"]
            if not sent or name != "idle" and not result["junk"]:
                wrong.append(f"{name} at the {port} port: nothing was sent")
            if sent != came:
                wrong.append(f"{name} at the {port} port: of {sent} IKE packets {came} came up")
            if result["latency"] is not None and result["latency"] > LATER * idle["latency"]:
                wrong.append(
                    f"{name} at the {port} port: the others' packets take {result['latency']} clocks instead of {idle['latency']}"
                )
            if result["healthy"] != idle["healthy"]:
                wrong.append(f"{name} at the {port} port: DFEs {result['healthy']:b} are healthy")
    if found["events"]["soft lifetimes"] != 1 or found["events"]["stalls"]:
        wrong.append(f"events: {found['events']}")
    return wrong


def table(found: dict) -> str:
    """As Markdown."""
    lines = [
        "| junk | port | frames of it | IKE sent | came up | clocks through another DFE, from the other port |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, ports in found.items():
        if name not in ("events", "drops"):
            lines += [
                f"| {name} | {port} | {result['junk']} | {result['ike'][0]} | {result['ike'][1]} | "
                f"{result['latency'] or ''} |"
                for port, result in ports.items()
            ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="what was found")
    args = parser.parse_args()
    found = measure()
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))
    print(table(found))
    wrong = faults(found)
    print("\n".join(wrong))
    return bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
