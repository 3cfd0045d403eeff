# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What a proof is, and what its modules are made of."""

import contextlib
import importlib
import inspect
import re
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Assume, ClockDomain, Module, Signal, Value
from amaranth.hdl._ast import (
    AnyConst,
    AnySeq,
)  # $anyconst and $anyseq of yosys; amaranth.hdl does not name them
from amaranth.lib import wiring

_INVARIANT = re.compile(
    r'  attribute \\src [^\n]*\n  cell \$check [^\n]*\n    parameter \\FORMAT "invariant: [^\n]*\n(?:    [^\n]*\n)*  end\n'
)


@dataclass(frozen=True)
class Mutation:
    """A fault put into the gateware: in the source of ``module``, ``old`` (found there exactly once)
    becomes ``new``.

    It is caught by a run from reset. Where that would be too long to be found, ``deep``, the induction has
    to break on it, with the same invariants: it held without.
    """

    what: str
    module: str
    old: str
    new: str
    deep: bool = False

    @contextlib.contextmanager
    def applied(self):
        """Spoils the module's classes and functions, and puts them right again.

        Raises
        ------
        ValueError
            The text is not there, or more than once: the mutation must follow the code.
        """
        module = importlib.import_module(self.module)
        source = inspect.getsource(module)
        if source.count(self.old) != 1:
            raise ValueError(f"{self.module} has {self.old!r} {source.count(self.old)} times, not once")
        spoiled = types.ModuleType(module.__name__)
        spoiled.__dict__.update(
            {name: value for name, value in module.__dict__.items() if name.startswith("__")}
        )
        exec(compile(source.replace(self.old, self.new), module.__file__, "exec"), spoiled.__dict__)
        kept = []
        for name, value in vars(spoiled).items():
            original = getattr(module, name, None)
            if not inspect.isclass(value) or value.__module__ != module.__name__ or original is None:
                continue
            for attribute, function in vars(value).items():
                if inspect.isfunction(function):
                    # What was replaced in the module (smaller sizes, abstractions) is so in the spoiled one
                    # as well.
                    kept.append((original, attribute, vars(original).get(attribute)))
                    setattr(original, attribute, _with_globals(function, module, spoiled))
        functions = [
            name
            for name, value in vars(spoiled).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
        ]
        before = {name: getattr(module, name) for name in functions}
        for name in functions:
            setattr(module, name, _with_globals(getattr(spoiled, name), module, spoiled))
        try:
            yield
        finally:
            for owner, attribute, function in kept:
                setattr(owner, attribute, function)
            for name, function in before.items():
                setattr(module, name, function)


def _with_globals(function, module, spoiled):
    """``function`` of the spoiled module, but it sees the original's classes and constants: those are
    compared, patched and shared.
    """
    names = module.__dict__
    made = types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, _cells(function, module)
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def _cells(function, module):
    """Its closure: ``__class__``, where ``super()`` is used, is the original class."""
    if function.__closure__ is None:
        return None
    cells = dict(zip(function.__code__.co_freevars, function.__closure__, strict=True))
    if "__class__" in cells:
        cells["__class__"] = types.CellType(getattr(module, cells["__class__"].cell_contents.__name__))
    return tuple(cells.values())


@dataclass(frozen=True)
class Proof:
    """A property of the gateware.

    Members
    -------
    name : str
        As docs/security.md names it: ``proof:NAME``.
    claim : str
        What holds, in a sentence.
    build : callable
        Puts the block and what must hold into a module (:class:`Bench`).
    depth : int
        Clocks: of the induction, or of the bounded search.
    unbounded : bool
        True: by induction, for runs of any length. False: for the first ``depth`` clocks after reset.
    mutations : tuple of Mutation
        Each must be caught within ``search`` clocks, by an assertion of the claim: those whose text begins
        with "invariant: " do not count.
    search : int
        Clocks searched for what a mutation breaks.
    limits : str
        What is not as in the gateway: sizes, abstractions.
    engine : str
        The solver, as sby's engine ``smtbmc`` is told.
    """

    name: str
    claim: str
    build: Callable[["Bench"], None]
    depth: int
    unbounded: bool = False
    mutations: tuple[Mutation, ...] = ()
    search: int = 0
    limits: str = ""
    engine: str = "z3"

    @property
    def method(self) -> str:
        """How far it reaches, in words."""
        return (
            f"induction over {self.depth} clocks: unbounded"
            if self.unbounded
            else f"{self.depth} clocks from reset"
        )

    def rtlil(self, mutation: Mutation | None = None) -> str:
        """The module to be searched, for yosys."""
        with mutation.applied() if mutation else contextlib.nullcontext():
            bench = Bench()
            self.build(bench)
            text = rtlil.convert(bench.m, name="top", ports=[bench.clk])
        # A mutation has to break what is claimed; that it breaks how the proof goes about it shows nothing.
        # Without invariants an induction would break on the gateware as it is.
        return _INVARIANT.sub("", text) if mutation and not mutation.deep else text


PROOFS: dict[str, Proof] = {}
"""All of them, by name."""


def proof(name: str, claim: str, *, depth: int, **more):
    """Makes a :class:`Proof` of the function that builds it."""

    def register(build):
        if name in PROOFS:
            raise ValueError(f"There are two proofs {name!r}")
        PROOFS[name] = Proof(name, claim, build, depth, **{"search": depth, **more})
        return build

    return register


@dataclass
class Bench:
    """The module of a proof: it begins as reset leaves it, and never is reset again.

    Members
    -------
    m : Module
    """

    m: Module = field(default_factory=Module)

    def __post_init__(self):
        self.m.domains.sync = domain = ClockDomain(reset_less=True)
        self.clk = domain.clk
        self.started = Signal(name="started")
        self.m.d.sync += self.started.eq(1)

    def block(self, component, name: str = "dut", free: bool = True) -> "Inside":
        """Adds ``component``; its inputs are anything, in each clock. Returns what is inside."""
        if free:
            for member in inputs(component):
                self.m.d.comb += member.eq(AnySeq(len(member)))
        inside = elaborated(component)
        self.m.submodules[name] = inside.module
        return inside

    def any(self, shape, name: str = "any") -> Signal:
        """A value that is anything in each clock."""
        value = Signal(shape, name=name)
        self.m.d.comb += Value.cast(value).eq(AnySeq(len(Value.cast(value))))
        return value

    def fixed(self, shape, name: str = "fixed") -> Signal:
        """A value that is anything, but the same in all clocks."""
        value = Signal(shape, name=name)
        self.m.d.comb += Value.cast(value).eq(AnyConst(len(Value.cast(value))))
        return value

    def past(self, value, clocks: int = 1):
        """``value`` as it was some clocks ago; 0 before the beginning."""
        for _ in range(clocks):
            kept = Signal(value.shape(), name="past")
            self.m.d.sync += kept.eq(value)
            value = kept
        return value

    def assume(self, condition) -> None:
        """What the surroundings keep to."""
        self.m.d.comb += Assume(condition)


def inputs(component) -> list[Value]:
    """The members that the surroundings drive, as plain values."""
    return [
        Value.cast(value)
        for _, member, value in component.signature.flatten(component)
        if member.flow == wiring.In
    ]


@dataclass(frozen=True)
class Inside:
    """A block's module, and the local variables of the methods that made it: for invariants that look inside.

    Members
    -------
    module : Module
    locals : dict of str to object
        By name; of equal ones the one that was made first.
    """

    module: Module
    locals: dict

    def __getitem__(self, name: str):
        return self.locals[name]

    def part(self, name: str):
        """The submodule ``name``."""
        return getattr(self.module.submodules, name)

    def within(self, state: str, name: str = "fsm"):
        """Whether the state machine ``name`` is in that state."""
        fsm = self.module._generated[name]
        return fsm.state == fsm.encoding[state]


def elaborated(component) -> Inside:
    """``component`` as a module, and what is in it."""
    seen = {}
    methods = {value.__code__ for value in vars(type(component)).values() if inspect.isfunction(value)}

    def watch(frame, event, _):
        if event == "return" and frame.f_code in methods and frame.f_locals.get("self") is component:
            for name, value in frame.f_locals.items():
                seen.setdefault(name, value)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        component._MustUse__silence = True  # its module is used instead
        module = component.elaborate(None)
    finally:
        sys.setprofile(before)
    return Inside(module, seen)


@contextlib.contextmanager
def replaced(module, **names):
    """Names of a module exchanged for others: smaller sizes, or abstractions of blocks."""
    before = {name: getattr(module, name) for name in names}
    for name, value in names.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


ROOT = Path(__file__).resolve().parents[2]
