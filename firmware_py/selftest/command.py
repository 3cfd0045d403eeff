# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate selftest``: shows whether a gateway works, before anything depends on it."""

import argparse
import asyncio
import json
import textwrap
from dataclasses import asdict

from spigate.firmware_py import terminal
from spigate.firmware_py.errors import InputError, SpigateError, UnsupportedError
from spigate.firmware_py.selftest.checks import CHECKS, NAMES, Outcome
from spigate.firmware_py.selftest.checks import run as run_checks
from spigate.firmware_py.selftest.session import REGISTERS, CountingBus, Depth, Session
from spigate.firmware_py.tables.driver import Driver
from spigate.firmware_py.tables.urls import FORMS, open_remote
from spigate.firmware_py.words import counted

SHOWN = 9
"""Failures of a check in the table."""
ERASES = (
    "selftest erases all tables of the gateway, and lets nothing pass between its ports while it runs: "
    "frames that come in there are dropped"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f"Shows whether a gateway works: its tables, algorithms, counters. {ERASES}. No control element may "
        "be at work. It ends with 1 where something failed."
    )
    parser.add_argument(
        "--dataplane",
        required=True,
        metavar="URL",
        help=f"the gateway in hardware: {' or '.join(FORMS.values())}",
    )
    parser.add_argument(
        "--check",
        action="append",
        choices=NAMES,
        metavar="NAME",
        help=f"only this check, behind erase, clock and loop; may be given again: {', '.join(NAMES)}",
    )
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument(
        "--quick", action="store_true", help="of the CAM and the SADs every eighth place, and the last"
    )
    depth.add_argument(
        "--thorough",
        action="store_true",
        help="every near miss at every place, which takes ten times as long",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="also where DFEs are switched on, which a control element has done that may be at work",
    )
    parser.add_argument("--json", action="store_true", help="JSON, one object, instead of a table")


def run(args: argparse.Namespace) -> int:
    depth = Depth.QUICK if args.quick else Depth.THOROUGH if args.thorough else Depth.NORMAL
    return asyncio.run(_run(args, depth))


async def _run(args: argparse.Namespace, depth: Depth) -> int:
    gateway = await open_remote(args.dataplane)
    try:
        bus = CountingBus(gateway)
        try:
            driver = await Driver.open(bus)
        except UnsupportedError as error:
            raise SpigateError(f"{args.dataplane}: capabilities failed: {error}") from None
        if (enabled := (await bus.read(REGISTERS["cfe.enable"].address))[0]) and not args.force:
            raise InputError(
                f"{args.dataplane}: its DFEs are switched on (cfe.enable is {enabled:#x}), so a control "
                "element may be at work, or traffic may pass by what it has left; end it, and say --force"
            )
        terminal.tell(f"{args.dataplane}: {ERASES}")
        session = Session(gateway, bus, driver, depth=depth)
        try:
            outcomes, left = await run_checks(session, args.check or NAMES, terminal.tell)
        finally:
            await session.close()
    finally:
        await gateway.close()
    failed = bool(left) or any(outcome.result == "failed" for outcome in outcomes)
    if args.json:
        print(json.dumps(_object(args.dataplane, driver, bus, outcomes, left, passed=not failed)))
    else:
        for line in _lines(outcomes, left, terminal.width()):
            print(line)
    return int(failed)


def _object(
    url: str, driver: Driver, bus: CountingBus, outcomes: list[Outcome], left: str, *, passed: bool
) -> dict[str, object]:
    """What another program reads."""
    capabilities = {
        name: sorted(str(getattr(each, "name", each)).lower() for each in value)
        if isinstance(value, frozenset)
        else value
        for name, value in asdict(driver.capabilities).items()
    }
    return {
        "dataplane": url,
        "passed": passed,
        "capabilities": capabilities,
        "checks": [outcome.row() for outcome in outcomes],
        "end": left,
        "written_words": bus.written_words,
        "read_words": bus.read_words,
        "bursts": bus.bursts,
    }


def _lines(outcomes: list[Outcome], left: str, width: int | None) -> list[str]:
    """A table of the checks, then each failure, and what to do."""
    rows = [
        {
            "check": outcome.check.name,
            "result": outcome.result,
            "seconds": f"{outcome.seconds:.1f}" if outcome.result != "skipped" else "",
            "what": outcome.detail,
        }
        for outcome in outcomes
    ]
    lines = terminal.table(rows, width)
    for outcome in outcomes:
        if outcome.result == "failed":
            lines += ["", f"{outcome.check.name} failed: {outcome.check.title}"]
            for failure in outcome.failures[:SHOWN]:
                lines += _folded(f"{failure['where']}: {failure['what']}", width)
            if (more := len(outcome.failures) - SHOWN) > 0:
                lines.append(f"  and {more} more, which --json shows")
            lines += _folded(f"What to do: {outcome.check.remedy}.", width)
    failed = [outcome.check.name for outcome in outcomes if outcome.result == "failed"]
    skipped = [outcome.check.name for outcome in outcomes if outcome.result == "skipped"]
    lines.append("")
    lines += [left] if left else []
    if failed or left:
        lines.append(f"{counted(len(failed), 'check')} of {len(outcomes)} failed")
    elif skipped:
        lines.append(f"what was tried passed; not tried: {', '.join(skipped)}")
    else:
        lines.append(
            f"{'all' if len(outcomes) == len(CHECKS) else len(outcomes)} checks passed; all tables are empty"
        )
    return lines


def _folded(text: str, width: int | None) -> list[str]:
    """Lines of a failure: where nobody sees it, one."""
    if width is None:
        return [f"  {text}"]
    return textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="    ", break_long_words=False)
