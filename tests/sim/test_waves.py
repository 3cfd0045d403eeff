# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Waveforms show what has a name, and states as words."""

import re

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl import verilog
from spigate.hdl.export import Core
from spigate.hdl.gateway import Gateway
from spigate.sim import waves
from spigate.sim.build import simulate_cocotb


class Light(wiring.Component):
    """A light that goes round by itself, with a sum that has no name; ``further`` signals that do nothing."""

    def __init__(self, *, further: int = 0):
        self._further = further
        super().__init__({"advance": In(1), "count": Out(8)})

    def elaborate(self, platform):
        m = Module()
        for index in range(self._further):
            unused = Signal(name=f"unused_{index}")
            m.d.sync += unused.eq(~unused)
        # A submodule and a signal of one name, and two signals of one name.
        m.submodules.lamp = _Lamp()
        lamp = Signal()
        m.d.comb += lamp.eq(self.count[0] ^ self.count[1])
        for bit in range(2):
            twin = Signal()
            m.d.sync += twin.eq(self.count[bit] & lamp)
        m.d.sync += self.count.eq(self.count + (self.count >> 3) + 1)
        return m


class _Lamp(wiring.Component):
    def __init__(self):
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        with m.FSM():
            for state, following in (("RED", "GREEN"), ("GREEN", "AMBER LIGHT"), ("AMBER LIGHT", "RED")):
                with m.State(state):
                    m.next = following
        return m


@pytest.mark.slow
def test_a_vcd_has_names_alone(tmp_path):
    simulate_cocotb(Light(), "tests.sim.bench_waves", waveform=tmp_path / "light.vcd")
    names = set(re.findall(r"\$var \w+ +\d+ \S+ (\S+)", (tmp_path / "light.vcd").read_text()))
    assert {"count", "fsm_state", "lamp_2", "twin", "twin_2"} <= names
    assert not [name for name in names if "$" in name or name.startswith("_")]


def names_of(component) -> set[str]:
    """Modules and declared names of the Verilog."""
    text = verilog.convert(component)
    return {
        name.strip()
        for name in re.findall(r"^(?:module|  (?:wire|reg)(?: \[\d+:0\])?) (\\\S+ |\w+)", text, re.MULTILINE)
        if not re.fullmatch(r"_\d+_", name)
    }


def test_a_signal_more_changes_no_other_name():
    """Before, Amaranth's numbers of names that occur twice counted all signals of the module."""
    before, after = names_of(Light()), names_of(Light(further=3))
    assert after - before == {"unused_0", "unused_1", "unused_2"} and before <= after


def test_submodules_are_called_as_in_the_source():
    assert {"\\top.lamp", "lamp_2", "twin", "twin_2"} <= names_of(Light())


@pytest.fixture(scope="module")
def gateway():
    return verilog.convert(Core(Gateway(beat_bytes=8, dfes=1)), name="spigate")


@pytest.mark.slow
def test_viewers_begin_with_signals_that_exist(gateway, tmp_path):
    written = waves.views(gateway, tmp_path / "x.fst")
    assert [path.name for path in written] == ["x.gtkw", "x.sucl"]
    parts = waves._split(gateway)
    shown = re.findall(r"^board\.gateway\.(\S+)$", written[0].read_text(), re.MULTILINE)
    assert len(shown) > 40 and any(name.startswith("gateway.dfe_0.") and "state" in name for name in shown)
    added = re.findall(r"^variable_add board\.gateway\.(\S+)$", written[1].read_text(), re.MULTILINE)
    assert [name.partition("[")[0] for name in shown] == added
    for path in shown:
        *scopes, name = path.split(".")
        kind = "spigate"
        for scope in scopes:
            kind = (
                re.search(rf"^  (\\\S+ |\w+) {scope} \($", parts[kind], re.MULTILINE)[1].strip().lstrip("\\")
            )
        base, _, bits = name.partition("[")
        assert re.search(
            rf"^  .*{re.escape(f'[{bits} ' if bits else '')}{base}\b.*;$", parts[kind], re.MULTILINE
        )


def test_states_become_an_enumeration():
    text = waves.with_states(verilog.convert(Light()))
    assert "{RED = 2'b00, GREEN = 2'b01, AMBER_LIGHT = 2'b10}" in text
    assert re.search(r"^  states_0::state fsm_state = states_0::state'\(2'h0\);$", text, re.MULTILINE)


@pytest.mark.parametrize("name, expected", [("a.fst", "fst"), ("a.vcd", "vcd"), ("wave", "fst"), (None, "")])
def test_the_suffix_says_the_format(name, expected, tmp_path):
    assert waves.format_of(name and tmp_path / name) == expected


@pytest.mark.slow
def test_an_fst_has_the_words_of_states(tmp_path):
    """The table of a state machine's words stands in the file as it is, with their numbers."""
    simulate_cocotb(Light(), "tests.sim.bench_waves", waveform=tmp_path / "light.fst")
    assert b"RED GREEN AMBER_LIGHT 00 01 10" in (tmp_path / "light.fst").read_bytes()
