# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import argparse
import re
import subprocess
import sys

import pytest

from spigate.hdl.contract.parameters import PARAMETERS
from spigate.hdl.export import Technology, add_arguments, export, gateway_from, run
from spigate.hdl.options import add_gateway_arguments
from spigate.sim.build import SIMULATORS, need, simulate_cocotb
from tests.hdl.standin import StandIn


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("beat_bytes", [8, 16])
def test_foreign_models_drive_the_exported_verilog(beat_bytes, simulator, tmp_path):
    path = export(StandIn(beat_bytes=beat_bytes), tmp_path / "spigate.v")
    for pauses in (False, True):
        assert (
            simulate_cocotb(
                path, "tests.hdl.bench_export", simulator=simulator, parameters={"pauses": pauses}
            )
            == 5
        )


def ports(text):
    """Names of the ports of module ``spigate``, by direction."""
    body = re.search(r"^module spigate\(.*?^endmodule", text, re.DOTALL | re.MULTILINE).group()
    found = {"input": set(), "output": set()}
    for direction, name in re.findall(
        r"^  (input|output)(?: reg)? (?:\[\d+:0\] )?(\w+);", body, re.MULTILINE
    ):
        found[direction].add(name)
    return found


def test_ports_have_the_names_that_users_know(tmp_path):
    found = ports(export(StandIn(), tmp_path / "spigate.v").read_text())
    inputs, outputs = {"clk", "rst"}, set()
    for name in ("network", "server", "inject"):
        inputs |= {f"s_axis_{name}_{signal}" for signal in ("tdata", "tkeep", "tvalid", "tlast", "tuser")}
        outputs |= {f"s_axis_{name}_tready"}
    for name in ("network", "server", "punt"):
        outputs |= {f"m_axis_{name}_{signal}" for signal in ("tdata", "tkeep", "tvalid", "tlast")}
        inputs |= {f"m_axis_{name}_tready"}
    inputs |= {
        f"s_axil_{name}"
        for name in (
            "awaddr",
            "awprot",
            "awvalid",
            "wdata",
            "wstrb",
            "wvalid",
            "bready",
            "araddr",
            "arprot",
            "arvalid",
            "rready",
        )
    }
    outputs |= {
        f"s_axil_{name}"
        for name in ("awready", "wready", "bresp", "bvalid", "arready", "rdata", "rresp", "rvalid")
    }
    assert found == {"input": inputs, "output": outputs}


def test_is_plain_verilog(tmp_path):
    path = export(StandIn(), tmp_path / "deep" / "spigate.v")
    subprocess.run(
        [need("iverilog", "iverilog", "This test"), "-g2001", "-tnull", "-s", "spigate", str(path)],
        check=True,
    )
    assert "DP16KD" not in path.read_text()
    assert "DP16KD" in export(StandIn(), tmp_path / "spigate.v", technology="ecp5").read_text()


@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
def test_options_make_the_gateway():
    parser = argparse.ArgumentParser()
    add_gateway_arguments(parser)
    gateway = gateway_from(
        parser.parse_args("--dfes 3 --lanes 2 --beat-bytes 8 --cam-entries 2048 --sa-entries 512".split())
    )
    assert (gateway.dfes, gateway.lanes, gateway.beat_bytes, gateway.cam_entries, gateway.sa_entries) == (
        3,
        2,
        8,
        2048,
        512,
    )
    with pytest.raises(ValueError, match="dfes must be 1 to 8, not 9"):
        gateway_from(parser.parse_args(["--dfes", "9"]))


@pytest.mark.parametrize(
    "option, value, said",
    [
        ("cam-entries", 1000, "cam_entries must be 1024, 2048, 4096 or 8192, not 1000"),
        ("cam-entries", 1500, "cam_entries must be 1024, 2048, 4096 or 8192, not 1500"),
        ("rules", 33, "rules must be 32 to 64, a multiple of 4, not 33"),
        ("rules", 68, "rules must be 32 to 64, a multiple of 4, not 68"),
        ("routes", 257, "routes must be 2 to 256, not 257"),
        ("sa-entries", 100, "sa_entries must be 256, 512"),
        ("sources", 0, "sources must be 1 to 4095, not 0"),
        ("clock-khz", 0, "clock_khz must be 1 to 16777215, not 0"),
        ("clock-khz", 1 << 24, "clock_khz must be"),
        ("lanes", 5, "lanes must be 1 to 4, not 5"),
    ],
)
def test_what_is_out_of_range_is_said_at_once(option, value, said, tmp_path):
    """Before, it was said by some block in the midst of the conversion, under a heap of Amaranth's
    warnings, or not at all.
    """
    shown = subprocess.run(
        [
            sys.executable,
            "-m",
            "spigate.firmware_py.cli",
            "export",
            f"--{option}",
            str(value),
            "-o",
            str(tmp_path / "x.v"),
        ],
        capture_output=True,
        text=True,
    )
    assert (
        shown.returncode == 2
        and shown.stderr.startswith("spigate export: ")
        and shown.stderr.count("\n") == 1
        and said in shown.stderr
    )


def test_what_others_read_is_written_beside_the_verilog(tmp_path, monkeypatch):
    """The stand-in takes the gateway's place, which takes a minute."""
    monkeypatch.setattr("spigate.hdl.export.gateway_from", lambda args: StandIn(beat_bytes=args.beat_bytes))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    names = {"--c-header": "c/spigate.h", "--ip-xact": "ip/spigate.xml", "--fusesoc": "gate.core"}
    words = [word for option, name in names.items() for word in (option, str(tmp_path / name))]
    assert run(parser.parse_args([*words, "--beat-bytes", "8", "-o", str(tmp_path / "rtl/spigate.v")])) == 0
    assert "gateway_t" in (tmp_path / "c/spigate.h").read_text()
    assert "../rtl/spigate.v" in (tmp_path / "ip/spigate.xml").read_text()
    assert "files: [rtl/spigate.v]" in (tmp_path / "gate.core").read_text()
    with pytest.raises(ValueError, match="gate.yml must end in .core"):
        run(parser.parse_args(["--fusesoc", str(tmp_path / "gate.yml")]))


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="must be a file, and is a folder"):
        run(argparse.Namespace(output=tmp_path))


def test_refuses_what_it_does_not_know(capsys):
    with pytest.raises(ValueError, match="technology must be one of generic, ecp5, not 'ice40'"):
        Technology("ice40")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--beat-bytes", "four"])
    assert "argument --beat-bytes" in capsys.readouterr().err


def test_help_has_the_range_of_every_parameter(monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    shown = parser.format_help()
    for name, parameter in PARAMETERS.items():
        option = f"--{name.replace('_', '-')} N"
        (line,) = (line for line in shown.splitlines() if line.strip().startswith(option))
        assert line.endswith(f"{parameter.limits} (default {parameter.default})")
    assert "compact, gcm, gcm-small, cbc-sha256 (default compact)" in shown
