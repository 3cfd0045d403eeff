# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The list of checks, and how they are run one after the other."""

import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

from spigate.firmware_py.selftest import answers, cam, counting, lists, paths, registers, rules, sas
from spigate.firmware_py.selftest.session import REGISTERS, GivenUp, Session
from spigate.firmware_py.tables.bus import BusError
from spigate.firmware_py.words import counted
from spigate.hdl.contract.enums import Table

LOAD = "load the bitstream again; what fails again at the same place is a fault of device or bitstream"


def _always(session: Session) -> str:
    return ""


def _needs_dfe(session: Session) -> str:
    return "" if session.working else "no DFE works"


@dataclass(frozen=True)
class Check:
    """One check.

    Members
    -------
    name : str
        One word, for whoever asks for it alone.
    title : str
        What it shows.
    run : callable
        Does it, notes failures in the session, and returns what it has done in words.
    remedy : str
        What to do where it fails.
    lacks : callable
        Why it does not apply to this gateway; nothing where it does.
    vital : bool
        Where it fails, no further check makes sense.
    """

    name: str
    title: str
    run: Callable[[Session], Awaitable[str]]
    remedy: str = LOAD
    lacks: Callable[[Session], str] = _always
    vital: bool = False


CHECKS = (
    Check(
        "capabilities",
        "what it says that it is",
        registers.capabilities,
        "compare the versions of bitstream and software, and look at the speed that the link is set to",
    ),
    Check(
        "erase",
        "all tables erased",
        registers.erase,
        "reset the gateway, or load the bitstream again",
        vital=True,
    ),
    Check(
        "registers",
        "settings as they were written",
        registers.settings,
        "try the link at a lower speed; if the same bits fail, load the bitstream again",
    ),
    Check(
        "clock",
        "the clock counts",
        registers.clock,
        "look at the board's oscillator and reset, and at the clock that the bitstream was made for",
        vital=True,
    ),
    Check(
        "loop",
        "frames down and up again",
        paths.loop,
        "try the link at a lower speed; then load the bitstream again",
        vital=True,
    ),
    Check("dfes", "each DFE takes packets", paths.dfes, "reset the gateway; if the DFE fails again, " + LOAD),
    Check("cam", "CAM, every slot", cam.cam),
    Check("rules", "rules, every index", rules.rules),
    Check("routes", "routes, every index", lists.routes, lacks=_needs_dfe),
    Check("sources", "clear sources, every index", lists.sources, lacks=_needs_dfe),
    Check("sas", "SADs, every place", sas.sas, lacks=_needs_dfe),
    Check("answers", "algorithms, known answers", answers.answers, lacks=_needs_dfe),
    Check("counters", "counters and events", counting.counters, lacks=_needs_dfe),
)
"""In this order. What stands on something else comes behind it."""
NAMES = tuple(check.name for check in CHECKS)


@dataclass
class Outcome:
    """What became of a check.

    Members
    -------
    result : str
        ``passed``, ``failed``, or ``skipped``, for ``detail``.
    detail : str
        What was done, or why nothing was.
    failures : list of dict
        ``where`` and ``what`` of each.
    """

    check: Check
    result: str
    detail: str = ""
    failures: list[dict[str, str]] = field(default_factory=list)
    given_up: bool = False
    seconds: float = 0.0
    written_words: int = 0
    read_words: int = 0
    bursts: int = 0
    frames: int = 0

    def row(self) -> dict[str, object]:
        """For JSON."""
        found = {name: value for name, value in vars(self).items() if name != "check"}
        found["seconds"] = round(self.seconds, 2)
        remedy = {"do": self.check.remedy} if self.result == "failed" else {}
        return {"check": self.check.name, "title": self.check.title, **found, **remedy}


async def run(
    session: Session, chosen: Collection[str], tell: Callable[[str], None]
) -> tuple[list[Outcome], str]:
    """Runs the checks that are ``chosen``, and those on which all others stand; the second is what went
    wrong when the tables were erased at the end, or nothing. ``tell`` is called with what is being done.
    """
    found, stopped = [], ""
    for check in CHECKS:
        if check.name not in chosen and not check.vital:
            continue
        why = stopped or check.lacks(session)
        if why:
            found.append(Outcome(check, "skipped", why))
            continue
        tell(f"{check.name}: {check.title}")
        outcome = await _one(session, check)
        found.append(outcome)
        if outcome.result == "failed" and (check.vital or not await _alive(session)):
            stopped = f"{check.name} failed"
    return found, await _leave(session)


async def _one(session: Session, check: Check) -> Outcome:
    bus, begun = session.bus, time.monotonic()
    before = (bus.written_words, bus.read_words, bus.bursts, session.frames)
    session.failures, detail, given_up = [], "", False
    try:
        detail = await check.run(session)
        await _refused(session, check)
    except GivenUp:
        given_up = True
    except BusError as error:
        session.failures.append((check.title, str(error)))
    after = (bus.written_words, bus.read_words, bus.bursts, session.frames)
    if session.failures:
        detail = counted(len(session.failures), "failure") + (", then given up" if given_up else "")
    return Outcome(
        check,
        "failed" if session.failures else "passed",
        detail,
        [{"where": where, "what": what} for where, what in session.failures],
        given_up,
        time.monotonic() - begun,
        *(now - then for now, then in zip(after, before, strict=True)),
    )


async def _refused(session: Session, check: Check) -> None:
    """A gateway that refuses what it must take has a fault as well."""
    register = REGISTERS["errors"]
    word = await session.register("errors")
    if word:
        names = ", ".join(name for name, on in register.unpack(word).items() if on)
        await session.bus.write(register.address, [word])
        session.failures.append((check.title, f"the gateway refused what was written: errors reads {names}"))


async def _alive(session: Session) -> bool:
    """Whether the gateway still answers, so that further checks make sense; then its tables are empty."""
    try:
        await session.clear(Table)
    except BusError:
        return False
    return True


async def _leave(session: Session) -> str:
    """Nothing stays: tables are erased, events taken, DFEs switched off, settings as after a reset."""
    try:
        await session.clear(Table)
        await session.driver.events()
        names = [name for name in REGISTERS if name.startswith("cfe.")]
        words = [sum(field.reset << field.low for field in REGISTERS[name].fields.values()) for name in names]
        await session.bus.write(REGISTERS[names[0]].address, words)
        await session.driver.check()
    except BusError as error:
        return f"the tables could not be erased at the end: {error}"
    return ""
