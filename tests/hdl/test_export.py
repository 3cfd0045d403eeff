import argparse
import re
import subprocess

import pytest

from spigate.hdl.export import Technology, add_arguments, add_gateway_arguments, export, gateway_from
from spigate.sim.build import SIMULATORS, need, simulate_cocotb
from tests.hdl.standin import StandIn


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("beat_bytes", [8, 16])
def test_foreign_models_drive_the_exported_verilog(beat_bytes, simulator, tmp_path):
    path = export(StandIn(beat_bytes=beat_bytes), tmp_path / "spigate.v")
    for pauses in (False, True):
        assert simulate_cocotb(path, "tests.hdl.bench_export", simulator=simulator, parameters={"pauses": pauses}) == 5


def ports(text):
    """Names of the ports of module ``spigate``, by direction."""
    body = re.search(r"^module spigate\(.*?^endmodule", text, re.DOTALL | re.MULTILINE).group()
    found = {"input": set(), "output": set()}
    for direction, name in re.findall(r"^  (input|output)(?: reg)? (?:\[\d+:0\] )?(\w+);", body, re.MULTILINE):
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
    inputs |= {f"s_axil_{name}" for name in ("awaddr", "awprot", "awvalid", "wdata", "wstrb", "wvalid", "bready", "araddr",
                                             "arprot", "arvalid", "rready")}
    outputs |= {f"s_axil_{name}" for name in ("awready", "wready", "bresp", "bvalid", "arready", "rdata", "rresp", "rvalid")}
    assert found == {"input": inputs, "output": outputs}


def test_is_plain_verilog(tmp_path):
    path = export(StandIn(), tmp_path / "deep" / "spigate.v")
    subprocess.run([need("iverilog", "iverilog", "This test"), "-g2001", "-tnull", "-s", "spigate", str(path)], check=True)
    assert "DP16KD" not in path.read_text()
    assert "DP16KD" in export(StandIn(), tmp_path / "spigate.v", technology="ecp5").read_text()


@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
def test_options_make_the_gateway():
    parser = argparse.ArgumentParser()
    add_gateway_arguments(parser)
    gateway = gateway_from(parser.parse_args("--dfes 3 --lanes 2 --beat-bytes 8 --cam-entries 2048 --sa-entries 512".split()))
    assert (gateway.dfes, gateway.lanes, gateway.beat_bytes, gateway.cam_entries, gateway.sa_entries) == (3, 2, 8, 2048, 512)
    with pytest.raises(ValueError, match="dfes must be 1 to 8, not 9"):
        gateway_from(parser.parse_args(["--dfes", "9"]))


def test_refuses_what_it_does_not_know(capsys):
    with pytest.raises(ValueError, match="technology must be one of generic, ecp5, not 'ice40'"):
        Technology("ice40")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--beat-bytes", "4"])
    assert "argument --beat-bytes" in capsys.readouterr().err
