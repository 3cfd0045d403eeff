# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""SAs that are keyed by hand, at work: what :class:`~spigate.firmware_py.ike.engine.endpoint.Endpoint` is for
those that are negotiated. Sans-I/O but for the file of sequence numbers.

An outbound SA is installed for one lease of sequence numbers
(:mod:`spigate.firmware_py.daemon.sequence_file`). When half of them are used, it is installed again with the
next lease. Nobody replaces its keys: at a soft lifetime somebody is told, at the hard one it ends.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from spigate.firmware_py.daemon.manual import ManualSa
from spigate.firmware_py.daemon.sequence_file import SequenceFile, UsedUp
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.engine.actions import Event, EventKind, InstallSa, Output, RemoveSa
from spigate.firmware_py.ipsec.sa import Lifetime, Sa, SaState
from spigate.hdl.contract.enums import Direction

LEASE = 1 << 22
"""Sequence numbers of one lease. A gateway may start a thousand times before an SA has used all."""


@dataclass
class _Running:
    """One SA. ``sa``: as configured; ``installed``: as it is installed, or None; ``spent``: what it carried
    before that; ``told``: somebody knows that it is to be replaced.
    """

    name: str
    sa: Sa
    installed: Sa | None = None
    lease: int = 0
    spent: SaState = SaState()
    told: bool = False
    renew: bool = False


class ManualKeying:
    """Parameters
    ----------
    sas : iterable of ManualSa
    numbers : SequenceFile
    state : callable
        How far an installed SA is; None where the data plane does not have it.
    """

    def __init__(self, sas: Iterable[ManualSa], numbers: SequenceFile, state: Callable[[Sa], SaState | None]):
        self._running = [_Running(each.name, each.sa) for each in sas]
        self._numbers, self._state = numbers, state
        self._outputs: list[Output] = []
        self._soft: dict[int, float] = {}
        self._hard: dict[int, float] = {}

    def start(self, now: float) -> None:
        """All of them begin. Raises InputError where sequence numbers cannot be kept."""
        for at, run in enumerate(self._running):
            for limits, ends in ((run.sa.soft, self._soft), (run.sa.hard, self._hard)):
                if limits.seconds is not None:
                    ends[at] = now + limits.seconds
            if self._install(run):
                self._tell(run, EventKind.SA_UP, f"{run.sa} is there, {run.sa.suite}, keyed by hand")

    def take(self) -> list[Output]:
        """What is to be done by now, in order."""
        for run in self._running:
            if run.renew:
                run.renew = False
                self._install(run)
        outputs, self._outputs = self._outputs, []
        return outputs

    @property
    def next_timer(self) -> float | None:
        """When :meth:`tick` is to be called next."""
        return min([*self._soft.values(), *self._hard.values()], default=None)

    def tick(self, now: float) -> None:
        """It is ``now``."""
        for at in [at for at, when in self._soft.items() if when <= now]:
            del self._soft[at]
            self._worn(self._running[at])
        for at in [at for at, when in self._hard.items() if when <= now]:
            del self._hard[at]
            self._end(self._running[at], "its lifetime is over")

    def expired(self, sa: Sa, *, hard: bool) -> bool:
        """The data plane says that ``sa`` has reached a limit; False: it is not keyed by hand."""
        run = next((each for each in self._running if each.installed == sa), None)
        if run is None:
            return False
        at = self._state(sa) or SaState()
        packets, octets = run.spent.packets + at.packets, run.spent.bytes + at.bytes
        over = _reached(packets, run.sa.hard.packets) or _reached(octets, run.sa.hard.bytes)
        if over or hard and (at.sequence < sa.last_number or not run.lease):
            self._end(run, "its lifetime is over")
            return True
        worn = _reached(packets, run.sa.soft.packets) or _reached(octets, run.sa.soft.bytes)
        # A data plane tells of a soft limit once, so that the one of the lease is set anew behind another.
        half = at.sequence >= sa.sequence + run.lease // 2
        run.renew |= bool(run.lease) and (hard or half or (worn and not run.told))
        if worn:
            self._worn(run)
        return True

    def undone(self, output: Output, error: Exception) -> bool:
        """The data plane could not do ``output``; False: that was not for an SA that is keyed by hand."""
        if not isinstance(output, InstallSa | RemoveSa):
            return False
        run = next((each for each in self._running if each.installed == output.sa), None)
        if run is None:
            return False
        run.installed, run.renew = None, False
        self._tell(run, EventKind.SA_FAILED, f"{run.sa} cannot be used: {error}")
        return True

    def _install(self, run: _Running) -> bool:
        """With new numbers, where it sends: in the place of what is installed. Whether it can send."""
        sa, installed, spent = run.sa, run.installed, run.spent
        before, count = 0, 0
        if sa.direction == Direction.OUTBOUND:
            try:
                before, count = self._numbers.lease(sa, LEASE)
            except (UsedUp, InputError) as error:
                if installed is None and isinstance(error, InputError):
                    raise
                if installed is None or self._used_up(run):
                    self._end(run, str(error), kind=EventKind.SA_FAILED)
                else:
                    self._worn(run)  # and it goes on with what it has
                return False
        if installed is not None:
            at = self._state(installed) or SaState()
            spent = SaState(bytes=spent.bytes + at.bytes, packets=spent.packets + at.packets)
            if _reached(spent.packets, sa.hard.packets) or _reached(spent.bytes, sa.hard.bytes):
                self._end(run, "its lifetime is over")
                return False
            self._outputs.append(RemoveSa(installed))
        hard = _left(sa.hard, spent)
        soft = Lifetime() if run.told else _left(sa.soft, spent)
        if count:
            soft = replace(soft, packets=min(filter(None, (soft.packets, hard.packets, max(1, count // 2)))))
        run.installed = replace(
            sa, sequence=before, last_sequence=before + count if count else None, soft=soft, hard=hard
        )
        run.lease, run.spent = count, spent
        self._outputs.append(InstallSa("", run.name, run.installed))
        return True

    def _used_up(self, run: _Running) -> bool:
        at = self._state(run.installed) if run.installed is not None else None
        return run.installed is None or at is None or at.sequence >= run.installed.last_number

    def _worn(self, run: _Running) -> None:
        if not run.told and run.installed is not None:
            run.told = True
            self._tell(run, EventKind.SA_WORN, f"{run.sa} is to be replaced: both sides need new keys for it")

    def _end(self, run: _Running, why: str, *, kind: EventKind = EventKind.SA_DOWN) -> None:
        if run.installed is not None:
            self._outputs.append(RemoveSa(run.installed))
        elif kind == EventKind.SA_DOWN:
            return
        run.installed, run.renew = None, False
        self._tell(run, kind, f"{run.sa} has ended: {why}")

    def _tell(self, run: _Running, kind: EventKind, text: str) -> None:
        self._outputs.append(Event(kind, "", text, child=run.name))


def _reached(used: int, limit: int | None) -> bool:
    return limit is not None and used >= limit


def _left(limits: Lifetime, spent: SaState) -> Lifetime:
    """What is left of ``limits``, at least one. Seconds are watched here."""
    return Lifetime(
        packets=limits.packets and max(1, limits.packets - spent.packets),
        bytes=limits.bytes and max(1, limits.bytes - spent.bytes),
    )
