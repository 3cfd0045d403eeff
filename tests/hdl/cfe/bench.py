# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A bench around the whole CFE: writes tables, sends frames into all ports at once, and takes everything
that comes out."""

import struct
from collections import Counter
from dataclasses import dataclass, field

from spigate.hdl.cfe.cfe import Cfe
from spigate.hdl.contract.enums import Balance, Port, Reason
from spigate.hdl.net.descriptor import CE_VERSION, CFE_COUNTERS, MAX_DFES, Verdict
from tests.hdl.cfe.tables import cam_index, writes
from tests.hdl.streams import PAUSES, never, put, put_packets, simulate, take, take_packet

ANY_VLAN = 1 << 12
CONTROL = {
    "balance": Balance.ROUND_ROBIN,
    "enable": 0xFF,
    "weights": [1] * MAX_DFES,
    "patience": 200,
    "miss_drop": 0,
    "rule_miss": 3,
    "depth_limit": 2,
    "miss_interval": 0,
    "network_vlan": ANY_VLAN,
    "server_vlan": ANY_VLAN,
}
PORTS = {Port.NETWORK: "network", Port.SERVER: "server", Port.CE: "inject", Port.RECIRCULATE: "recirculate"}


def keeps_its_word(stream):
    """A background testbench: once offered, a payload stays until it is taken."""

    async def watch(ctx):
        offered = None
        signals = stream.valid, stream.ready, stream.payload.as_value()
        async for _, _, valid, ready, payload in ctx.tick().sample(*signals):
            assert offered is None or valid and payload == offered, f"{stream!r} took back what it offered"
            offered = payload if valid and not ready else None

    return watch


def from_bytes(out_of):
    """The SA that a packet came out of as the control element's headers have it."""
    return (
        struct.pack("<HBB", out_of["sa"], 0x80 | out_of["dfe"], out_of["generation"]) if out_of else bytes(4)
    )


@dataclass
class Out:
    """A packet that came out: ``frame`` without alignment (and header), ``info`` of a DFE or the punt
    header's fields."""

    frame: bytes
    info: object
    dfe: int | None = None


@dataclass
class Run:
    """What goes in, and what came out."""

    beat_bytes: int = 16
    dfes: int = 2
    control: dict = field(default_factory=dict)
    cam: list = field(default_factory=list)
    rules: list = field(default_factory=list)
    routes: dict = field(default_factory=lambda: {1: {"valid": 1, "egress": Port.SERVER}})
    pauses: str = "none"
    free: dict = field(default_factory=dict)
    """Room in the queue of DFEs that are not idle."""
    own: list = field(default_factory=list)
    """The gateway's own addresses: an IPv4 one as a number, the last 32 bits of an IPv6 one in (number,
    True).
    """
    spi_open: int = 1
    busy: set = field(default_factory=set)
    """DFEs that have packets inside."""
    size: dict = field(default_factory=dict)
    """``cam_entries``, ``rules``, ``routes``."""
    strict: bool = False
    """Check in every clock that no stream takes back what it offered."""

    def __post_init__(self):
        self.cfe = Cfe(beat_bytes=self.beat_bytes, dfes=self.dfes, **self.size)
        self.frames = {port: [] for port in PORTS}
        self.aborted, self.depths = set(), []
        self.to_dfe, self.direct, self.reports = [], [], []
        self.counters, self.healthy, self.clocks = {}, None, None

    def network(self, *frames):
        self.frames[Port.NETWORK] += frames
        return self

    def server(self, *frames):
        self.frames[Port.SERVER] += frames
        return self

    def inject(self, *frames, mode=0, port=Port.NETWORK, depth=0, out_of=None):
        head = bytes([CE_VERSION, mode, port, depth]) + from_bytes(out_of)
        self.frames[Port.CE] += [head + bytes(10) + frame for frame in frames]
        return self

    def recirculate(self, *frames, depth=1, out_of=None):
        self.frames[Port.RECIRCULATE] += [b"\0\0" + frame for frame in frames]
        self.depths += [{"depth": depth, "out_of": out_of or {}}] * len(frames)
        return self

    @property
    def dropped(self) -> Counter:
        return Counter(Reason(report.reason) for report in self.reports if report.dropped)

    @property
    def punted(self) -> Counter:
        return Counter(Reason(out.info["reason"]) for out in self.direct if out.info["port"] == Port.CE)

    def verdicts(self, verdict: Verdict) -> list[Out]:
        return [out for out in self.to_dfe if out.info.verdict == verdict]

    async def tables(self, ctx):
        cfe = self.cfe
        if "miss_interval" in self.control:
            await ctx.tick().repeat(256)  # until the misses from before the reset are forgotten
        for index, route in self.routes.items():
            await put(ctx, cfe.tables, writes("route", index, **route))
        for index, rule in enumerate(self.rules):
            await put(ctx, cfe.tables, writes("rule", index, **rule))
        own = [address if isinstance(address, tuple) else (address, False) for address in self.own]
        for entry in self.cam + [
            {"destination": address, "spi": 500, "protocol": 17, "ipv6": ipv6} for address, ipv6 in own
        ]:
            entry = {"protocol": 50, "ipv6": 0, **entry}
            index = cam_index(
                0,
                destination=entry["destination"],
                spi=entry["spi"],
                protocol=entry["protocol"],
                ipv6=bool(entry["ipv6"]),
                entries=self.size.get("cam_entries", 1024),
            )
            await put(ctx, cfe.tables, writes("cam", index, valid=1, **entry))

    def run(self, clocks=50_000, script=None):
        """Runs until every packet that went in has come out or been reported, and a little longer.
        ``script(ctx)`` runs beside it."""
        cfe, expected = self.cfe, sum(map(len, self.frames.values()))
        ready = []
        accounted = self.accounted

        async def main(ctx):
            ctx.set(cfe.control, {**CONTROL, **self.control})
            for at in range(self.dfes):
                ctx.set(cfe.dfe_free[at], self.free.get(at, 2048))
            ctx.set(cfe.spi_open, self.spi_open)
            ctx.set(cfe.dfe_busy, sum(1 << at for at in self.busy))
            await self.tables(ctx)
            await ctx.tick().repeat(10)
            ready.append(True)
            self.clocks = 0
            while accounted() < expected:
                await ctx.tick()
                self.clocks += 1
            await ctx.tick().repeat(60)
            assert accounted() == expected
            self.counters = {name: ctx.get(cfe.counters[name]) for name, _ in CFE_COUNTERS}
            self.healthy = ctx.get(cfe.healthy)

        def source(port, name):
            async def send(ctx):
                while not ready:
                    await ctx.tick()
                pause, _ = PAUSES[self.pauses]()
                await put_packets(
                    ctx,
                    getattr(cfe, name),
                    self.frames[port],
                    pause,
                    abort=lambda at: (port, at) in self.aborted,
                )

            return send

        async def egress(ctx):
            await put(
                ctx, cfe.recirculate_egress, [{"port": Port.RECIRCULATE, **facts} for facts in self.depths]
            )

        async def time(ctx):
            now = 1000
            while True:
                ctx.set(cfe.time, now)
                await ctx.tick()
                now += 1

        async def reports(ctx):
            _, pause = PAUSES[self.pauses]()
            while True:
                self.reports.append(await take(ctx, cfe.reports, pause))

        outputs = [cfe.direct, cfe.direct_egress, cfe.reports, *cfe.dfe, *cfe.dfe_info] if self.strict else []
        simulate(
            cfe,
            main,
            *([script] if script else []),
            clocks=clocks,
            background=[
                *(source(port, name) for port, name in PORTS.items()),
                *map(keeps_its_word, outputs),
                egress,
                time,
                reports,
                *self._direct(),
                *(testbench for at in range(self.dfes) for testbench in self._dfe(at)),
            ],
        )
        return self

    def accounted(self):
        return len(self.to_dfe) + len(self.direct) + sum(report.dropped for report in self.reports)

    def _dfe(self, at):
        """Takes DFE ``at``'s packets and descriptors independently, and pairs them."""
        infos, frames = [], []
        _, pause = PAUSES[self.pauses]()

        def pair():
            while infos and frames:
                info, frame = infos.pop(0), frames.pop(0)
                assert frame[:2] == b"\0\0" and info.length == len(frame)
                self.to_dfe.append(Out(frame[2:], info, at))

        async def take_infos(ctx):
            while True:
                infos.append(await take(ctx, self.cfe.dfe_info[at], pause))
                pair()

        async def take_frames(ctx):
            while True:
                frames.append(await take_packet(ctx, self.cfe.dfe[at], never))
                pair()

        return take_infos, take_frames

    def _direct(self):
        items, frames = [], []
        _, pause = PAUSES[self.pauses]()

        def pair():
            while items and frames:
                item, frame = items.pop(0), frames.pop(0)
                facts = {
                    "port": item.port,
                    "depth": item.depth,
                    **{name: getattr(item, name) for name in ("protected", "bypassed", "injected")},
                }
                if item.port == Port.CE:
                    assert frame[0] == CE_VERSION
                    *values, bits, time, came = struct.unpack("<xBBBHBBI4s", frame[:16])
                    facts |= dict(
                        zip(("reason", "ingress", "dfe", "sa", "header_depth"), values, strict=True)
                    )
                    facts |= {
                        "tagged": bits & 1,
                        "rule": bits >> 1 & 0x3F if bits >> 7 else None,
                        "time": time,
                        "from": came,
                    }
                    frame = frame[16:]
                assert frame[:2] == b"\0\0"
                self.direct.append(Out(frame[2:], facts))

        async def take_items(ctx):
            while True:
                items.append(await take(ctx, self.cfe.direct_egress, pause))
                pair()

        async def take_frames(ctx):
            while True:
                frames.append(await take_packet(ctx, self.cfe.direct, pause))
                pair()

        return take_items, take_frames
