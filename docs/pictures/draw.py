# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Draws the pictures of the documentation: ``python docs/pictures/draw.py``, here, as SVG.

A picture of boxes has a grid of its own, and its arrows go through points that are given. A timing diagram
is made of the very bytes that it shows.
"""

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
INK, SOFT, PAPER, LINE = "#0f172a", "#475569", "#f8fafc", "#334155"
HARDWARE, HOST, WORLD, EDGE = "#dbeafe", "#fef3c7", "#ffffff", "#b45309"


@dataclass
class Picture:
    """An SVG under way; what is added comes on top."""

    title: str
    width: int
    height: int
    parts: list[str] = field(default_factory=list)

    def area(self, x: int, y: int, width: int, height: int, name: str) -> None:
        """A region that is named at its top left, behind the boxes."""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="10" fill="#eef2ff" '
            f'stroke="#c7d2fe"/>'
        )
        self.text(x + 12, y + 20, name, "start", "#4338ca")

    def box(self, x: int, y: int, width: int, height: int, *lines: str, fill: str = WORLD) -> None:
        """A box; its first line is its name."""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" '
            f'stroke="{LINE}" stroke-width="1.5"/>'
        )
        top = y + height / 2 - (len(lines) - 1) * 8.5 + 4
        for at, line in enumerate(lines):
            bold = ' font-weight="600"' if at == 0 else ""
            size, ink = (14, INK) if at == 0 else (12, SOFT)
            self.parts.append(
                f'<text x="{x + width / 2}" y="{top + 17 * at:.1f}" text-anchor="middle" '
                f'font-size="{size}" fill="{ink}"{bold}>{escape(line)}</text>'
            )

    def text(self, x: float, y: float, words: str, anchor: str = "middle", ink: str = SOFT) -> None:
        """A line of words."""
        self.parts.append(
            f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="12" fill="{ink}">{escape(words)}</text>'
        )

    def arrow(self, *points: tuple[int, int], words: str = "", at: tuple[int, int] | None = None) -> None:
        """A line through ``points`` with a head at its end, and words at ``at``."""
        way = "M" + "L".join(f"{x} {y}" for x, y in points)
        self.parts.append(
            f'<path d="{way}" fill="none" stroke="{EDGE if words else LINE}" stroke-width="1.5" '
            f'marker-end="url(#head)"/>'
        )
        if words and at:
            self.text(*at, words, ink=EDGE)

    def line(self, way: str, ink: str = LINE, fill: str = "none") -> None:
        """A path."""
        self.parts.append(f'<path d="{way}" fill="{fill}" stroke="{ink}" stroke-width="1.2"/>')

    def svg(self) -> str:
        """The file's text."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'font-family="system-ui, sans-serif" role="img" aria-label="{escape(self.title)}">\n'
            f"<title>{escape(self.title)}</title>\n"
            '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
            f'<path d="M0 0L8 4L0 8z" fill="{LINE}"/></marker></defs>\n'
            f'<rect width="{self.width}" height="{self.height}" rx="10" fill="{PAPER}"/>\n'
        )
        return head + "\n".join(self.parts) + "\n</svg>\n"


def packet() -> Picture:
    """The way of a packet whose SA the hardware has."""
    p = Picture("A packet's way through the gateway", 980, 400)
    p.area(130, 30, 720, 260, "FPGA")
    p.box(20, 80, 90, 50, "network", "untrusted")
    p.box(20, 180, 90, 50, "server", "trusted")
    p.box(150, 70, 110, 170, "ingress", "a queue a port", "of whole frames")
    p.box(300, 70, 140, 170, "CFE", "parse", "CAM by SPI, or rules", "route, balance", fill=HARDWARE)
    for at, y in enumerate((70, 130, 190)):
        second = ("dispatch, lanes, commit", "SAD, replay window", "")[at]
        p.box(490, y, 160, 50, f"DFE {'01n'[at]}", *([second] if second else []), fill=HARDWARE)
        p.arrow((440, y + 25), (488, y + 25))
        p.arrow((650, y + 25), (698, y + 25))
    p.box(700, 70, 130, 170, "forwarding", "guard", "queues a port", "punts by class")
    p.box(870, 80, 90, 50, "network", "protected only")
    p.box(870, 180, 90, 50, "server")
    p.box(400, 320, 300, 56, "control element", "Python: IKEv2, policies, tables, slow path", fill=HOST)
    p.arrow((110, 105), (148, 105))
    p.arrow((110, 205), (148, 205))
    p.arrow((260, 155), (298, 155))
    p.arrow((830, 105), (868, 105))
    p.arrow((830, 205), (868, 205))
    p.arrow((370, 240), (370, 258), (765, 258), (765, 242))
    p.text(560, 252, "direct: punts")
    p.arrow((740, 240), (740, 276), (185, 276), (185, 242))
    p.text(460, 272, "recirculate: one more layer to take off")
    p.arrow((800, 240), (800, 348), (702, 348), words="punt", at=(760, 342))
    p.arrow((400, 348), (225, 348), (225, 242), words="inject", at=(300, 342))
    return p


def punt() -> Picture:
    """How the first packet of an SA is learned from."""
    p = Picture("The first packet of an SA: punted, learned, injected", 980, 430)
    lanes = (("ports", 90), ("CFE", 290), ("DFE", 490), ("control element", 700), ("IKE, policies", 890))
    for name, x in lanes:
        p.box(x - 70, 20, 140, 36, name, fill=HOST if x > 600 else HARDWARE if x > 200 else WORLD)
        p.line(f"M{x} 56V410", "#cbd5e1")
    steps = (
        (90, 290, "ESP packet, SPI not in the CAM"),
        (290, 700, "punt: unknown_spi, and the DFE that the balancer chose"),
        (700, 890, "which SA, which policies?"),
        (890, 700, "this SA, these packets"),
        (700, 490, "write the SA"),
        (700, 290, "write route and CAM entry"),
        (700, 290, "inject the packet again"),
        (290, 490, "the CAM knows the SPI"),
        (490, 90, "decrypted, verified: out at the server port"),
        (90, 290, "the next packet of this SA"),
        (290, 490, "goes to the DFE at once"),
    )
    for at, (begin, end, words) in enumerate(steps):
        y = 84 + 31 * at
        step = -4 if end < begin else 4
        p.arrow((begin + step, y), (end - step, y))
        p.text((begin + end) / 2, y - 5, words, ink=INK)
    return p


def sa() -> Picture:
    """The way of an SA, from what the operator writes to registers."""
    p = Picture("An SA, from configuration to registers", 980, 470)
    p.area(20, 20, 660, 430, "host: firmware_py/")
    p.area(710, 20, 250, 430, "FPGA: hdl/")
    p.box(50, 55, 270, 54, "gate.toml", "daemon/config.py, daemon/peers.py", fill=HOST)
    p.box(380, 55, 270, 54, "the peer's datagrams", "daemon/loop.py: sockets and timers", fill=WORLD)
    p.box(50, 155, 600, 54, "Endpoint", "ike/engine: negotiates; InstallSa, AddPolicy", fill=HOST)
    p.box(50, 255, 270, 54, "Hardware", "daemon/hardware.py: one task, in order", fill=HOST)
    p.box(380, 255, 270, 54, "ControlElement", "control/: which DFE, which place", fill=HOST)
    p.box(380, 365, 270, 54, "driver", "tables/: rows, CAM slots, bursts", fill=HOST)
    p.box(50, 365, 270, 54, "SoftSa", "ipsec/: what no DFE does", fill=HOST)
    p.box(735, 365, 200, 54, "window", "csr/: rows, then a command", fill=HARDWARE)
    p.box(735, 255, 200, 54, "SAD of a DFE", "dfe/sad.py: keys, window, limits", fill=HARDWARE)
    p.box(735, 155, 200, 54, "CAM and routes", "cfe/: visible in one clock", fill=HARDWARE)
    p.box(735, 55, 200, 54, "rules", "cfe/rules.py: clear packets", fill=HARDWARE)
    p.arrow((185, 109), (185, 153))
    p.arrow((515, 109), (515, 153))
    p.arrow((185, 209), (185, 253))
    p.text(195, 235, "wants, in order", "start")
    p.arrow((320, 282), (378, 282))
    p.arrow((515, 309), (515, 363))
    p.text(525, 340, "SA, CAM, rule, route", "start")
    p.arrow((380, 300), (185, 340), (185, 363))
    p.text(80, 340, "or in software", "start")
    p.arrow((650, 392), (733, 392))
    p.text(691, 384, "AXI4-Lite")
    p.arrow((835, 365), (835, 311))
    p.arrow((790, 365), (790, 330), (722, 330), (722, 182), (733, 182))
    p.arrow((722, 182), (722, 82), (733, 82))
    return p


CLOCK, ROW, LEFT = 62, 34, 110


@dataclass
class Timing:
    """A timing diagram: a column a clock."""

    title: str
    clocks: int
    rows: list[tuple[str, list[str]]] = field(default_factory=list)

    def wire(self, name: str, levels: str) -> None:
        """A signal of one bit: a ``0`` or ``1`` for each clock, ``x`` where it does not matter."""
        assert len(levels) == self.clocks, (name, levels)
        self.rows.append((name, list(levels)))

    def bus(self, name: str, words: list[str]) -> None:
        """A signal of many bits: the words of each clock, "" where it does not matter."""
        assert len(words) == self.clocks, (name, words)
        self.rows.append((name, [f"={word}" for word in words]))

    def picture(self, note: str = "") -> Picture:
        """The diagram, with a note below it."""
        width = LEFT + CLOCK * self.clocks + 20
        p = Picture(self.title, width, ROW * (len(self.rows) + 1) + (44 if note else 24))
        for clock in range(self.clocks + 1):
            x = LEFT + CLOCK * clock
            p.line(f"M{x} 12V{ROW * (len(self.rows) + 1) + 10}", "#e2e8f0")
        way = f"M{LEFT} 40" + "".join(f"V22h{CLOCK // 2}V40h{CLOCK - CLOCK // 2}" for _ in range(self.clocks))
        p.text(LEFT - 12, 36, "clk", "end", INK)
        p.line(way)
        for at, (name, values) in enumerate(self.rows, start=1):
            top = 18 + ROW * at
            p.text(LEFT - 12, top + 16, name, "end", INK)
            self._row(p, top, values)
        if note:
            p.text(LEFT, p.height - 14, note, "start")
        return p

    def _row(self, p: Picture, top: int, values: list[str]) -> None:
        high, low, before = top + 2, top + 22, None
        clock = 0
        while clock < len(values):
            value, end = values[clock], clock + 1
            while end < len(values) and values[end] == value and value not in ("0", "1"):
                end += 1
            x, wide = LEFT + CLOCK * clock, CLOCK * (end - clock)
            if value in ("x", "="):
                p.line(f"M{x} {high}h{wide}V{low}h-{wide}z", "#cbd5e1", "#e2e8f0")
                before = None
            elif value.startswith("="):
                p.line(f"M{x + 4} {high}h{wide - 8}l4 10l-4 10h-{wide - 8}l-4 -10z", LINE, "#ffffff")
                p.text(x + wide / 2, top + 16, value[1:], ink=INK)
            else:
                y = high if value == "1" else low
                p.line(f"M{x} {before if before is not None else y}V{y}h{wide}")
                before = y
            clock = end


def beats(length: int, width: int) -> list[range]:
    """The bytes of each beat of a packet."""
    return [range(at, min(at + width, length)) for at in range(0, length, width)]


def span(part: range) -> str:
    """Bytes, as a diagram says them."""
    return f"{part.start}..{part[-1]}"


def into_core() -> Picture:
    """A frame into the core, with a clock in which the core does not take a beat."""
    width, found = 8, beats(60, 8)
    shown = [found[0], found[1], found[1], *found[2:]]
    t = Timing("A frame of 60 bytes into the core, 8 bytes a beat", len(shown) + 2)
    t.wire("tvalid", "0" + "1" * len(shown) + "0")
    t.wire("tready", "11" + "0" + "1" * (len(shown) - 1))
    t.bus("tdata", ["", *map(span, shown), ""])
    keep = [f"0x{(1 << len(part)) - 1:02x}" for part in shown]
    t.bus("tkeep", ["", *keep, ""])
    t.wire("tlast", "x" + "0" * (len(shown) - 1) + "1x")
    t.wire("tuser", "x" + "x" * (len(shown) - 1) + "0x")
    assert len(shown[-1]) < width
    return t.picture(
        "tdata: the frame's bytes in this beat, the first one in bits 7:0. Bytes 8..15 wait a clock."
    )


def damaged() -> Picture:
    """A frame that its MAC found damaged."""
    found = beats(60, 8)[-3:]
    t = Timing("A damaged frame into the core", len(found) + 2)
    t.wire("tvalid", "0111" + "0")
    t.wire("tready", "1" * 5)
    t.bus("tdata", ["", *map(span, found), ""])
    t.wire("tlast", "x001x")
    t.wire("tuser", "xxx1x")
    return t.picture("tuser with tlast: dropped (bad_frame).")


def headers(kind: str, fields: list[list[str]]) -> Picture:
    """The first beats of a frame at the control element's port, byte by byte."""
    columns, rows = 8, fields
    p = Picture(f"The first three beats of a frame at {kind}, 8 bytes a beat", 980, 60 + 44 * len(rows))
    for at in range(columns):
        p.text(140 + 100 * at + 50, 24, f"[{8 * at + 7}:{8 * at}]")
    for row, names in enumerate(rows):
        y = 34 + 44 * row
        p.text(128, y + 24, f"beat {row}: bytes {8 * row}..{8 * row + 7}", "end", INK)
        at = 0
        for name in names:
            name, _, wide = name.partition("*")
            size = int(wide or 1)
            fill = HARDWARE if name.startswith("frame") else HOST if name != "0" else "#e2e8f0"
            p.box(140 + 100 * at, y, 100 * size, 38, name, fill=fill)
            at += size
        assert at == columns, names
    return p


PUNT = [
    ["version", "reason", "ingress", "dfe", "sa*2", "depth", "tag, rule"],
    ["time*4", "from_sa*2", "from_dfe", "from_gen."],
    ["0*2", "frame 0..5*6"],
]
INJECT = [
    ["version", "mode", "port", "depth", "from_sa*2", "from_dfe", "from_gen."],
    ["0*8"],
    ["0*2", "frame 0..5*6"],
]
PICTURES = {
    "packet.svg": packet,
    "punt.svg": punt,
    "sa.svg": sa,
    "stream-in.svg": into_core,
    "stream-damaged.svg": damaged,
    "punt-header.svg": lambda: headers("m_axis_punt", PUNT),
    "inject-header.svg": lambda: headers("s_axis_inject", INJECT),
}


def main() -> None:
    """Writes all of :data:`PICTURES`."""
    for name, make in PICTURES.items():
        (HERE / name).write_text(make().svg())


if __name__ == "__main__":
    main()
