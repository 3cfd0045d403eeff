# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A lane as commit sees it, for tests: buffers and SA rows in Python, served with the clocks and pauses of a
real one.
"""

from collections import deque

from scapy.layers.inet import IP
from scapy.packet import Raw

from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Reason
from spigate.hdl.dfe.job import BUFFERS
from spigate.hdl.net.descriptor import Verdict
from spigate.hdl.net.packet import BUFFER_BYTES
from tests.hdl.streams import never, put

READ_CLOCKS, ROW_CLOCKS = 4, 2
ESP_HEADER = bytes.fromhex("00001000 00000005")
ETHERNET = bytes.fromhex("0000 02aabbccdd01 02aabbccdd02 0800")
TAGGED = bytes.fromhex("0000 02aabbccdd01 02aabbccdd02 8100 2064 0800")
EVERYTHING = {
    "selector_addresses": {},
    "selector_ports": {"source_port_high": 65535, "destination_port_high": 65535, "any_protocol": 1},
}
"""Selectors that match every packet."""


def number(ip: str) -> int:
    """An IPv4 address as the number that it denotes."""
    return int.from_bytes(map(int, ip.split(".")), "big")


def rows_of(**rows: dict[str, int]) -> dict[int, int]:
    """Rows of an SA's entry by name and field, as numbers by index."""
    entry = rdl.entry("sa")
    return {
        entry[name].index: sum(word << 32 * at for at, word in enumerate(entry[name].pack(fields)))
        for name, fields in rows.items()
    }


class Lane:
    """Buffers ``contents`` and ``rows`` of their SAs."""

    def __init__(self):
        self.contents = [b""] * BUFFERS
        self.rows = [{} for _ in range(BUFFERS)]
        self.reads = 0

    def serve(self, read, rows, pause=never):
        """A background testbench that answers at the ports ``read`` and ``rows``."""
        beat_bytes = len(read.data) // 8

        async def run(ctx):
            beats, answers = deque([None] * (READ_CLOCKS - 1)), deque([None] * (ROW_CLOCKS - 1))
            while True:
                ready, row_ready = not pause(), not pause()
                ctx.set(read.ready, ready)
                ctx.set(rows.ready, row_ready)
                _, _, enable, buffer, address, row_enable, row_buffer, row = await ctx.tick().sample(
                    read.enable, read.buffer, read.address, rows.enable, rows.buffer, rows.row
                )
                beats.append(self._beat(buffer, address, beat_bytes) if enable and ready else None)
                answers.append(self.rows[row_buffer][row] if row_enable and row_ready else None)
                self.reads += enable and ready
                for port, value in ((read, beats.popleft()), (rows, answers.popleft())):
                    ctx.set(port.valid, value is not None)
                    ctx.set(port.data, value or 0)

        return run

    def _beat(self, buffer, address, beat_bytes):
        content = self.contents[buffer].ljust(BUFFER_BYTES, b"\xee")[4 * address : 4 * address + beat_bytes]
        return int.from_bytes(content.ljust(beat_bytes, b"\xee"), "little")


def trailer(content: bytes, next_header: int, align: int = 4, padding: bytes | None = None) -> bytes:
    """``content`` with padding 1, 2, 3 ... to a multiple of ``align`` bytes (or with ``padding``), pad length
    and next header.
    """
    if padding is None:
        padding = bytes(range(1, 1 + -(len(content) + 2) % align))
    return content + padding + bytes([len(padding), next_header])


def frame_info(packet: IP, ethernet: bytes = ETHERNET, **more) -> dict:
    """The CFE's descriptor of ``packet`` (a scapy IP with all fields set)."""
    raw = bytes(packet)
    return {
        "length": len(ethernet) + len(raw),
        "tagged": ethernet == TAGGED,
        "ipv4": 1,
        "header_words": packet.ihl,
        "total_length": packet.len,
        "tos": packet.tos,
        "ttl": packet.ttl,
        "dont_fragment": "DF" in packet.flags,
        "protocol": packet.proto,
        "source": number(packet.src),
        "destination": number(packet.dst),
        "ingress": 0,
    } | more


def decrypted(
    text: bytes, *, outer: IP | None = None, ethernet: bytes = ETHERNET, mode: int = 1, control=(), **info
):
    """A Done, and the buffer's content, of a packet of which ``text`` came out of the crypto."""
    outer = outer or IP(src="192.0.2.1", dst="192.0.2.2", proto=50, ttl=60)
    outer = IP(bytes(outer / Raw(ESP_HEADER + bytes(8) + text + bytes(16))))
    header = bytes(outer)[: 4 * outer.ihl]
    facts = (
        frame_info(outer, ethernet, verdict=Verdict.DECRYPT, reason=Reason.NONE, spi=0x1000, sequence=5)
        | info
    )
    job = {
        "info": facts,
        "control": {"valid": 1, "mode": mode, "spi": 0x1000} | dict(control),
        "sequence": facts["sequence"],
        "esp": (len(ethernet) + len(header)) // 4,
        "text_bytes": len(text),
    }
    return {"job": job, "buffer": 0, "ok": 1}, ethernet + header + text


def plain(packet: bytes, verdict: Verdict, *, ethernet: bytes = ETHERNET, padding: bytes = b"", **info):
    """A Done, and the buffer's content, of a frame that has not seen the crypto."""
    facts = frame_info(IP(packet), ethernet, verdict=verdict) | info
    facts["length"] += len(padding)
    return {"job": {"info": facts}, "buffer": 0, "ok": 1}, ethernet + packet + padding


class Lanes:
    """The lanes of a ``Commit``. They hand over packets as lanes do, four buffers each, and spoil a buffer
    once it is released.
    """

    def __init__(self, commit, pause=lambda seed: never):
        self.lanes = [Lane() for _ in commit.lane]
        self.commit, self.pause = commit, pause
        self.held = 0
        self.open = True

    def background(self, packets):
        """Background testbenches that hand over ``packets``: (lane, done, content, rows)."""
        benches = [self._order([lane for lane, *_ in packets])]
        for number, (lane, port) in enumerate(zip(self.lanes, self.commit.lane, strict=False)):
            own = [packet for at, *packet in packets if at == number]
            free, taken = deque(range(BUFFERS)), deque()
            benches += [
                lane.serve(port.read, port.rows, self.pause(number)),
                self._feed(lane, port, own, free, taken),
                self._release(lane, port, free, taken),
            ]
        return benches

    def _order(self, lanes):
        async def run(ctx):
            while not self.open:
                await ctx.tick()
            await put(ctx, self.commit.order, lanes, self.pause(100))

        return run

    def _feed(self, lane, port, packets, free, taken):
        async def run(ctx):
            for done, content, rows in packets:
                while not free:
                    await ctx.tick()
                buffer = free.popleft()
                lane.contents[buffer], lane.rows[buffer] = content, rows_of(**rows)
                taken.append(buffer)
                await put(ctx, port.done, [done | {"buffer": buffer}], self.pause(200))
                self.held += 1

        return run

    def _release(self, lane, port, free, taken):
        async def run(ctx):
            while True:
                _, _, release = await ctx.tick().sample(port.release)
                if release:
                    buffer = taken.popleft()
                    self.held -= 1
                    lane.contents[buffer] = b"\xdd" * BUFFER_BYTES
                    free.append(buffer)

        return run
