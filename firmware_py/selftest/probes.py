# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A packet that is injected, and what is to become of it."""

from collections.abc import Iterable
from dataclasses import dataclass

from spigate.firmware_py.selftest.frames import normal
from spigate.firmware_py.tables.punt import InjectMode, Place, PuntHeader
from spigate.firmware_py.words import counted
from spigate.hdl.contract.enums import Port, Reason


@dataclass(frozen=True)
class Up:
    """The packet comes up to the control element, for ``reason``, as ``frame``. Other fields of its header
    are compared where they are not None; ``of`` is that of :class:`PuntHeader` called ``out_of``.
    """

    reason: Reason
    frame: bytes
    dfe: int | None = None
    sa: int | None = None
    rule: int | None = None
    of: Place | None = None

    def wrong(self, header: PuntHeader) -> str:
        """What is not as it should be, in words; nothing where all is."""
        found = [
            f"{name} {_shown(has)}, not {_shown(wants)}"
            for name, wants, has in (
                ("reason", self.reason, header.reason),
                ("DFE", self.dfe, header.dfe),
                ("SA", self.sa, header.sa),
                ("rule", self.rule, header.rule),
                ("SA that it came out of", self.of, header.out_of),
            )
            if wants is not None and has != wants
        ]
        return ", ".join(found)


@dataclass(frozen=True)
class Gone:
    """The packet is dropped, and counted, for ``reason``."""

    reason: Reason


@dataclass(frozen=True)
class Probe:
    """A frame to inject.

    Members
    -------
    what : str
        What it shows, for whoever reads that it does not: table, DFE, index, bits.
    frame : bytes
    becomes : Up or Gone
    port : Port
        Where it seems to have come in.
    depth : int
        Recirculations so far.
    dfe : int or None
        The DFE that it is for: packets of one DFE come up in their order. None: the classifier decides alone.
    otherwise : bytes
        As what it would come up if it were let through wrongly; empty: as it went down.
    """

    what: str
    frame: bytes
    becomes: Up | Gone
    port: Port = Port.NETWORK
    depth: int = 0
    dfe: int | None = None
    otherwise: bytes = b""
    mode: InjectMode = InjectMode.CLASSIFY

    @property
    def size(self) -> int:
        """Bytes of the longer one of what goes down and what may come up."""
        return max(
            len(self.frame),
            len(self.becomes.frame) if isinstance(self.becomes, Up) else 0,
            len(self.otherwise),
        )


class Batch:
    """Probes under way, and what came up. Replies are known by their frames, for those of several DFEs come
    in any order.
    """

    def __init__(self) -> None:
        self.waiting: dict[int, Probe] = {}
        self.wrong: list[tuple[Probe, str]] = []
        self.strays: list[tuple[PuntHeader, bytes]] = []
        self._expected: dict[bytes, list[int]] = {}
        self._traces: dict[bytes, Probe] = {}
        self.sent_so_far: list[Probe] = []

    def sent(self, probe: Probe) -> None:
        """A probe goes down."""
        number = len(self.sent_so_far)
        self.sent_so_far.append(probe)
        self.waiting[number] = probe
        for trace in (probe.frame, probe.otherwise):
            self._traces[normal(trace)] = probe
        if isinstance(probe.becomes, Up):
            self._expected.setdefault(normal(probe.becomes.frame), []).append(number)

    def came(self, header: PuntHeader, frame: bytes) -> None:
        """A frame came up."""
        known = normal(frame)
        numbers = self._expected.get(known, [])
        if numbers:
            number = numbers.pop(0)
            probe = self.waiting.pop(number)
            if isinstance(probe.becomes, Up) and (wrong := probe.becomes.wrong(header)):
                self.wrong.append((probe, f"it came up with {wrong}"))
            self._pass(number, probe.dfe)
        elif known in self._traces:
            probe = self._traces[known]
            self.wrong.append((probe, f"it came up as {_shown(header.reason)}, not {told(probe)}"))
            self._forget(probe)
        else:
            self.strays.append((header, frame))

    def _pass(self, number: int, dfe: int | None) -> None:
        """What was sent to the same place before, and is not to come up, has not."""
        for before in [at for at, probe in self.waiting.items() if at < number]:
            probe = self.waiting[before]
            if isinstance(probe.becomes, Gone) and probe.dfe in (None, dfe):
                del self.waiting[before]

    def _forget(self, probe: Probe) -> None:
        for number, other in list(self.waiting.items()):
            if other is probe:
                del self.waiting[number]
                if isinstance(probe.becomes, Up):
                    self._expected[normal(probe.becomes.frame)].remove(number)

    def settled(self) -> None:
        """Nothing more can come: what has not come up is lost."""
        for number, probe in self.waiting.items():
            if isinstance(probe.becomes, Up):
                self._expected[normal(probe.becomes.frame)].remove(number)
                stray = f"; {self._other(probe.becomes)}" if self.strays else ""
                self.wrong.append((probe, f"it did not come up as it should{stray}"))
        self.waiting.clear()

    def nearest(self, frame: bytes) -> Probe:
        """The probe of which a frame that nobody knows seems to have come."""
        return max(self.sent_so_far, key=lambda probe: _likeness(frame, probe.otherwise or probe.frame))

    def _other(self, wanted: Up) -> str:
        """What came in the place of what was wanted."""
        header, frame = max(self.strays, key=lambda stray: _likeness(stray[1], wanted.frame))
        self.strays.remove((header, frame))
        if header.reason != wanted.reason:
            return f"another frame came up, as {_shown(header.reason)}"
        pairs = enumerate(zip(frame, wanted.frame, strict=False))
        at = next((at for at, (a, b) in pairs if a != b), min(len(frame), len(wanted.frame)))
        return f"a frame came up that differs from byte {at} on ({counted(len(frame), 'byte')})"


def told(probe: Probe) -> str:
    """What is to become of it, in words."""
    if isinstance(probe.becomes, Gone):
        return f"dropped as {_shown(probe.becomes.reason)}"
    return f"as {_shown(probe.becomes.reason)}"


def drops(probes: Iterable[Probe]) -> dict[Reason, int]:
    """How many of them are to be dropped, by reason."""
    found: dict[Reason, int] = {}
    for probe in probes:
        if isinstance(probe.becomes, Gone):
            found[probe.becomes.reason] = found.get(probe.becomes.reason, 0) + 1
    return found


def _likeness(one: bytes, other: bytes) -> int:
    return sum(a == b for a, b in zip(one, other, strict=False))


def _shown(value: object) -> str:
    if isinstance(value, Reason):
        return value.name.lower()
    if isinstance(value, Place):
        return f"{value.sa} of DFE {value.dfe}, generation {value.generation}"
    return "none" if value is None else str(value)
