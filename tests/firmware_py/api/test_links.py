# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The ways to a gateway: what their URLs must be, what is told when they break, and that nothing stays
behind.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import spigate
from spigate import InjectMode, Port, Reason
from spigate.firmware_py.api import links
from tests.firmware_py.api.served import served
from tests.firmware_py.api.test_gateway import ESP, SA, learn


def live(test):
    """A mark: it has a simulator."""
    return pytest.mark.slow(pytest.mark.xdist_group("live")(test))


SECONDS = 60
WAITING = """
import signal, sys, spigate
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin without one
from tests.firmware_py.api.test_gateway import learn
with spigate.open(sys.argv[1]) as gateway:
    learn(gateway)
    print("waiting", flush=True)
    gateway.receive(timeout=1000)
"""


@pytest.fixture
def hardware(tmp_path):
    with served(tmp_path / "gateway") as made:
        yield made


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "a gateway is named by model:, sim:?OPTIONS, unix:PATH, serial:///dev/DEVICE?baud=RATE, not ''"),
        (
            "gateway",
            "a gateway is named by model:, sim:?OPTIONS, unix:PATH, serial:///dev/DEVICE?baud=RATE, not 'gateway'",
        ),
        (
            "tcp://host:1",
            "a gateway is named by model:, sim:?OPTIONS, unix:PATH, serial:///dev/DEVICE?baud=RATE, not 'tcp://host:1'",
        ),
        ("model:x", "model:x: expected model:, without 'x'"),
        ("model:?dfes=3", "model:?dfes=3: an option must be none, not 'dfes'"),
        ("unix:", "expected unix:PATH with the socket of a gateway in hardware"),
        ("unix:/nowhere/x", "unix:/nowhere/x: No such file or directory; is the gateway running"),
        ("sim:?cam=3", "sim:?cam=3: an option must be one of beat-bytes, "),
        ("sim:?dfes=many", "sim:?dfes=many: dfes must be a number, not 'many'"),
        ("sim:?dfes=9", "sim:?dfes=9: dfes must be "),
        ("sim:?engine=fast", "sim:?engine=fast: engine must be one of compact, "),
        ("sim:?simulator=vcs", "sim:?simulator=vcs: simulator must be one of verilator, icarus, not 'vcs'"),
    ],
)
def test_a_url_that_is_none_is_told(url, said):
    with pytest.raises(spigate.InputError) as error:
        spigate.open(url)
    assert str(error.value).startswith(said)


def test_the_nearest_option_is_told():
    with pytest.raises(spigate.InputError, match=r"not 'dfe'; do you mean dfes\?$"):
        spigate.open("sim:?dfe=3")


def test_what_an_extra_brings_is_asked_for(monkeypatch):
    monkeypatch.setitem(links.SCHEMES, "sim", links.Scheme("absent.module", "sim", "sim:"))
    with pytest.raises(spigate.ToolMissing) as error:
        spigate.open("sim:")
    assert str(error.value) == "sim: absent is not installed: pip install 'spigate[sim]'"


def test_hardware_is_found_empty_and_left_empty(hardware):
    with spigate.open(hardware.url) as gateway:
        learn(gateway)
        assert hardware.sas == 1 and gateway.capabilities.sa_entries == 256
    assert hardware.sas == 0
    with spigate.open(hardware.url) as gateway:
        learn(gateway)
        left = gateway
    with spigate.open(hardware.url):
        assert left.closed and hardware.sas == 0


def test_what_another_program_left_there_is_erased(hardware):
    hardware.gateway._sas[1][200] = object()
    with spigate.open(hardware.url):
        assert hardware.sas == 0


def test_at_hardware_frames_go_the_control_elements_way(hardware):
    with spigate.open(hardware.url) as gateway:
        with pytest.raises(spigate.UnsupportedError) as error:
            gateway.send(Port.NETWORK, ESP)
        assert str(error.value).startswith(
            f"{hardware.url}: its port network is where its cable is, not here"
        )
        hardware.gateway._look_up = lambda packet: (_ for _ in ()).throw(
            spigate.firmware_py.ipsec.packet.Refused(Reason.UNKNOWN_SPI)
        )
        gateway.inject(InjectMode.CLASSIFY, Port.NETWORK, ESP)
        punt = gateway.receive()
        assert (punt.port, punt.frame, punt.reason) == (Port.CE, ESP, Reason.UNKNOWN_SPI)
        with pytest.raises(
            spigate.ReceiveTimeout, match=r"no frame left at port server within 0\.1 s; events and"
        ):
            gateway.receive(Port.SERVER, timeout=0.1)


def test_what_it_refused_is_told_at_the_end(hardware):
    with pytest.raises(spigate.BusError, match="The gateway refused rows that do not fit the table"):
        with spigate.open(hardware.url) as gateway:
            learn(gateway)
            hardware.refuse(rows=1)
    assert gateway.closed and hardware.sas == 0


def test_the_scripts_own_error_is_what_is_told(hardware):
    with pytest.raises(ZeroDivisionError):
        with spigate.open(hardware.url) as gateway:
            hardware.refuse(rows=1)
            gateway.write_sa(0, 1 // 0, SA)


def test_hardware_that_hangs_up_is_told(hardware):
    with pytest.raises(spigate.BusError, match="the gateway hung up"):
        with spigate.open(hardware.url) as gateway:
            hardware.hang_up()
            gateway.receive(timeout=SECONDS)
    gateway = spigate.open(hardware.url)
    hardware.hang_up()
    with pytest.raises(spigate.BusError, match="the gateway hung up"):
        for _ in range(100):
            gateway.counters()
    gateway.close()


def test_another_version_is_told(tmp_path):
    with served(tmp_path / "gateway", version={"map": 9}) as other:
        with pytest.raises(spigate.UnsupportedError, match="with register map 9"):
            spigate.open(other.url)


def waiting(url: str) -> subprocess.Popen:
    """A script that waits, in a session of its own."""
    script = subprocess.Popen(
        [sys.executable, "-c", WAITING, url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert script.stdout.readline() == "waiting\n", script.stderr.read()
    return script


def of_session(session: int) -> list[str]:
    """The processes of a session that are at work."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        if rest.split()[3] == str(session) and rest.split()[0] != "Z":
            found.append(name)
    return found


def test_ctrl_c_ends_a_script_that_waits(hardware):
    script = waiting(hardware.url)
    os.killpg(script.pid, signal.SIGINT)
    assert script.wait(SECONDS) == -signal.SIGINT
    assert script.stderr.read().rstrip().endswith("KeyboardInterrupt") and hardware.sas == 0


def test_ctrl_c_ends_a_call_that_gets_no_answer(hardware):
    """And what the driver was at is taken back as soon as the gateway answers."""
    script = waiting(hardware.url)
    hardware.hold.clear()
    os.killpg(script.pid, signal.SIGINT)
    time.sleep(0.3)
    hardware.hold.set()
    assert script.wait(SECONDS) == -signal.SIGINT and hardware.sas == 0


@live
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_simulator_outlives_its_script(number):
    script = waiting("sim:")
    assert len(of_session(script.pid)) >= 2
    if number == signal.SIGINT:
        os.killpg(script.pid, number)  # as a terminal does
    else:
        script.kill()
    assert script.wait(SECONDS) == -number
    end = time.monotonic() + SECONDS
    while left := of_session(script.pid):
        assert time.monotonic() < end, left
        time.sleep(0.05)


@live
def test_a_simulator_that_dies_is_told():
    gateway = spigate.open("sim:")
    os.kill(simulators()[0], signal.SIGKILL)
    with pytest.raises(spigate.SpigateError, match="the simulation ended before its tests did"):
        gateway.receive(timeout=SECONDS)
    with pytest.raises(spigate.SpigateError, match="the simulation ended before its tests did"):
        gateway.counters()
    gateway.close()


@live
def test_a_script_that_does_not_close_ends(tmp_path):
    shown = subprocess.run(
        [sys.executable, "-c", "import spigate; print(spigate.open('sim:').capabilities.dfes)"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert (shown.stdout, shown.stderr) == ("1\n", "")


@live
def test_a_folder_for_sockets_that_is_too_long_is_told(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with pytest.raises(spigate.InputError, match="AF_UNIX path too long; TMPDIR may name another folder"):
        spigate.open("sim:")
    assert not list(long.iterdir())


@live
def test_standard_input_stays_the_scripts():
    shown = subprocess.run(
        [sys.executable, "-c", "import spigate, sys\nwith spigate.open('sim:'): print(sys.stdin.readline())"],
        input="of the script\n",
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert shown.stdout == "of the script\n\n"


def simulators() -> list[int]:
    """This process's simulators."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        if rest.split()[1] == str(os.getpid()) and name.partition("(")[2].startswith("board"):
            found.append(int(stat.parent.name))
    return found
