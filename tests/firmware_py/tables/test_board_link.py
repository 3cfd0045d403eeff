# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The driver of boards against the gateware of their link, at bit level behind a pseudo-terminal."""

import asyncio
import os
import random
import re
import socket
import subprocess
import sys
import time
import tty
from contextlib import suppress
from pathlib import Path

import pytest

import spigate
from spigate.firmware_py.errors import InputError, UnsupportedError
from spigate.firmware_py.tables import board_link, serial_wire, uartbone
from spigate.firmware_py.tables.board_link import BoardLink
from spigate.firmware_py.tables.bus import BusError, Gone
from spigate.firmware_py.tables.driver import Driver
from spigate.firmware_py.tables.punt import InjectMode
from spigate.hdl.contract import rdl
from spigate.hdl.contract.constants import LINK_BAUD, LINK_MAGIC, MAGIC
from spigate.hdl.contract.enums import Port
from tests.firmware_py.tables.link_board import running
from tests.firmware_py.tables.test_driver import GCM, HOSTS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
SAS, SA_WORDS = 256, 54
BOARD, GATEWAY = rdl.registers("board"), rdl.registers()


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    with running(tmp_path_factory.mktemp("board")) as terminal:
        yield terminal


def on(board, test):
    """Runs ``test(link)`` with a link to a board."""

    async def run():
        link = await BoardLink.open(f"serial:{board.path}")
        try:
            return await test(link)
        finally:
            await link.close()

    return asyncio.run(run())


async def of(link, name: str) -> int:
    return (await link.read(BOARD[f"link.{name}"].address))[0]


def test_a_board_is_fresh_until_somebody_has_written(tmp_path):
    """Then its tables need not be erased."""
    with running(tmp_path) as terminal:

        async def test(link):
            return link.fresh

        assert on(terminal, test)
        assert not on(terminal, test)  # the first one has given back the punts of before


def test_a_script_opens_it(tmp_path):
    with running(tmp_path) as terminal, spigate.open(f"serial:{terminal.path}") as gateway:
        assert (gateway.capabilities.dfes, gateway.capabilities.sa_entries) == (2, 256)


def test_registers_of_gateway_and_link_are_read(board):
    async def test(link):
        assert await link.read(GATEWAY["id"].address) == [MAGIC]
        assert await of(link, "id") == LINK_MAGIC
        assert len(await link.read(GATEWAY["drops"].address, 64)) == 64

    on(board, test)


def test_the_bytes_of_the_guide(board):
    """docs/host-link.md shows commands and their answer."""
    text = (ROOT / "docs" / "host-link.md").read_text()
    sent, said, written = (
        bytes.fromhex("".join(re.findall(r"\b[0-9a-f]{2}\b", line.split("  ")[0])))
        for line in re.findall(r"^[<>] (.*)$", text, re.MULTILINE)
    )

    async def test(link):
        assert sent == uartbone.read(GATEWAY["id"].address, 2)
        assert await link.read(GATEWAY["id"].address, 2) == uartbone.unpack(said)
        assert written == uartbone.write(GATEWAY["cfe.enable"].address, [3])

    on(board, test)


@pytest.mark.slow
def test_a_cold_start_of_256_sas(board):
    """An SA is one burst, and costs no round trip: only the driver's own questions wait. docs/host-link.md has
    the figures.
    """

    async def test(link):
        driver = await Driver.open(link)
        assert (driver.capabilities.dfes, driver.capabilities.sa_entries) == (2, 256)
        wire, sent, answered = link._wire, [], link._answers
        before, link._wire.send = wire.send, lambda *burst: sent.append(burst) or before(*burst)
        for index in range(SAS):
            await driver.write_sa(index % 2, index, GCM, HOSTS)
        await driver.check()
        down = sum(wire.size(*burst) for burst in sent)
        up = sum(4 * count for _, reads in sent for _, count in reads)
        words = sum(len(words) for writes, _ in sent for _, words in writes)
        assert words == SAS * SA_WORDS
        assert link._answers - answered == len(sent)
        figures = {
            "words written": f"{words:,}: {SA_WORDS} an SA",
            "bytes down": f"{down:,}",
            "bytes up": f"{up:,}",
            "bursts whose status was read": f"{len(sent)}",
            "at 3,000,000 baud": f"{10 * max(down, up) / LINK_BAUD:.2f} s, if the host's adapter waits for nothing",
        }
        # How many SAs one burst has depends on how fast the answers come: at the most one each, at the least ...
        print(figures)
        assert SAS / 8 <= len(sent) <= SAS + 1

    on(board, test)


def test_what_is_refused_is_named_at_once_or_with_the_next_call(board):
    async def test(link):
        with pytest.raises(BusError, match="^The gateway refused to read 0x7f00$"):
            await link.read(0x7F00)
        await link.write(GATEWAY["id"].address, [1])
        with pytest.raises(BusError, match="^The gateway refused to write 0x0000$"):
            await link.read(GATEWAY["time"].address)
        with pytest.raises(BusError, match="^The gateway refused to read 0x1ff00$"):
            await link.read(0x1_FF00)
        assert await link.read(GATEWAY["id"].address) == [MAGIC]
        assert link.failure is None

    on(board, test)


@pytest.mark.parametrize("address", [2, 0x4_0000, -4])
def test_addresses_that_nothing_has_are_refused(board, address):
    async def test(link):
        with pytest.raises(InputError, match="address must be a multiple of 4 below 262144, not"):
            await link.read(address)

    on(board, test)


def test_frames_go_down_and_come_up(board):
    """The board sends up what goes down. More than the rings hold, so that they begin anew, of every length in
    the last word.
    """
    source = random.Random(1)
    frames = [
        source.randbytes(length)
        for length in [14, 15, 16, 17, 60, *[source.randint(200, 900) for _ in range(8)]]
    ]

    async def test(link):
        async def send():
            for frame in frames:
                await link.inject(InjectMode.CLASSIFY, Port.SERVER, 0, frame)

        sending = asyncio.create_task(send())
        found = [(await link.receive())[1] for _ in frames]
        await sending
        assert found == frames
        assert link.take_lost().total() == 0

    assert sum(map(len, frames)) > 4096
    on(board, test)


def test_a_frame_that_the_gateway_does_not_take_is_refused(board):
    async def test(link):
        with pytest.raises(InputError, match="a frame must be at most 1918 bytes, not 1919"):
            await link.inject(InjectMode.CLASSIFY, Port.SERVER, 0, bytes(1919))

    on(board, test)


def test_punts_of_before_are_nobodys(board):
    """Whoever opens the link gets what comes up from then on."""

    async def leave(link):
        link._polling.cancel()
        await link.inject(InjectMode.CLASSIFY, Port.SERVER, 0, b"of before, and long enough")
        while (await of(link, "punt_used")) == 0:
            pass

    async def test(link):
        await link.inject(InjectMode.CLASSIFY, Port.SERVER, 0, b"of now, and long enough too")
        assert (await link.receive())[1] == b"of now, and long enough too"

    on(board, leave)
    on(board, test)


def test_an_idle_link_asks_rarely(board):
    async def test(link):
        await asyncio.sleep(0.5)
        before = link._answers
        await asyncio.sleep(1)
        assert link._answers - before <= 1 / board_link.POLL_SECONDS[1] + 1

    on(board, test)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (
            lambda data: data[:40] + bytes([data[40] ^ 4]) + data[41:],
            "has taken other words than were written",
        ),
        (lambda data: data[: 6 + 4 * 3], r"has not taken the \d+ words last written, or it was reset"),
    ],
)
def test_what_did_not_arrive_as_it_was_sent_ends_the_link(board, monkeypatch, harm, said):
    write = uartbone.write

    async def test(link):
        monkeypatch.setattr(
            uartbone,
            "write",
            lambda address, words: harm(write(address, words)) if len(words) > 9 else write(address, words),
        )
        await link.write(GATEWAY["table.data"].address, list(range(40)))
        monkeypatch.undo()
        if "not" in said:
            await asyncio.sleep(1)  # the rest of the command ends by the pause
        with pytest.raises(Gone, match=f"^serial:{board.path}: the gateway {said}$"):
            await link.read(0)
            await link.read(0)

    on(board, test)


def test_noise_before_the_link_does_no_harm(board):
    line = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
    os.write(line, bytes([0x55, 0, 0xFF, uartbone.WRITE, 3, 0, 0]))
    os.close(line)
    time.sleep(0.5)

    async def test(link):
        assert await link.read(GATEWAY["id"].address) == [MAGIC]
        assert await of(link, "timeouts") >= 1

    on(board, test)


def test_a_line_belongs_to_one_program(board):
    async def test(link):
        with pytest.raises(InputError, match=f"^serial:{board.path}: another program has it$"):
            await BoardLink.open(f"serial:{board.path}")

    on(board, test)


class TestLitex:
    """LiteX's own client reads and writes the same registers."""

    @pytest.fixture
    def client(self, board):
        from litex.tools.litex_client import RemoteClient

        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        words = ["--uart", "--uart-port", board.path, "--bind-port", str(port)]
        server = subprocess.Popen(
            [sys.executable, "-u", "-m", "litex.tools.litex_server", *words],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            while "tcp port" not in server.stdout.readline():
                assert server.poll() is None
            client = RemoteClient(port=port)
            while not client.binded:  # which it is some time after it has said so
                with suppress(ConnectionRefusedError):
                    client.open()
            yield client
            client.close()
        finally:
            server.kill()
            server.communicate()

    def test_it_reads_the_id(self, client):
        assert client.read(GATEWAY["id"].address) == MAGIC
        assert client.read(BOARD["link.id"].address) == LINK_MAGIC

    def test_it_writes_and_reads_bursts(self, client):
        weights, patience = GATEWAY["cfe.weights"].address, GATEWAY["cfe.patience"].address
        assert patience == weights + 4
        client.write(weights, [0x1234_5678, 0x9ABC])
        assert client.read(weights, 2) == [0x1234_5678, 0x9ABC]
        client.write(BOARD["link.punt_tail"].address, 0)

    def test_a_frame_comes_up_and_goes_down_without_our_driver(self, client):
        """By the rings alone, as docs/host-link.md has them."""
        tail = client.read(BOARD["link.inject_tail"].address)
        head = client.read(BOARD["link.punt_head"].address)
        words = [40, *range(0x100, 0x10A)]
        client.write(BOARD["inject"].address + 4 * (tail % 1024), words)
        client.write(BOARD["link.inject_head"].address, tail + len(words))
        assert client.read(BOARD["link.punt_head"].address) == head + len(words)
        assert client.read(BOARD["punt"].address + 4 * (head % 1024), len(words)) == words
        client.write(BOARD["link.punt_tail"].address, head + len(words))
        assert client.read(BOARD["link.punt_used"].address) == 0


def test_pulled_out_it_says_so_to_everybody_who_waits(tmp_path):
    with running(tmp_path) as terminal:

        async def test(link):
            receiving = asyncio.create_task(link.receive())
            await asyncio.sleep(0.2)
            terminal.pull_out()
            with pytest.raises(Gone, match=f"^serial:{terminal.path}: the gateway its serial line is gone$"):
                await receiving
            with pytest.raises(Gone):
                await link.read(0)
            with pytest.raises(Gone):
                await link.write(0, [0])
            with pytest.raises(Gone):
                await link.inject(InjectMode.CLASSIFY, Port.SERVER, 0, bytes(60))
            assert str(link.failure).endswith("is gone")

        on(terminal, test)


# Lines without a board


@pytest.fixture
def line():
    """Both ends of a pseudo-terminal: the master, and the path of the slave."""
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


def refused(url: str, said: str, kind=InputError) -> None:
    with pytest.raises(kind, match=said):
        asyncio.run(BoardLink.open(url))


def test_a_line_on_which_nothing_answers(line, monkeypatch):
    monkeypatch.setattr(board_link, "OPEN_SECONDS", 0.2)
    refused(
        f"serial:{line[1]}",
        f"^serial:{line[1]}: nothing answers there; has the board power and its gateware, and is the rate right\\?$",
    )


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (
            [0xDEADBEEF, 0],
            InputError,
            "what answers is no spigate: it says 0xdeadbeef, not 0x53504c4b; is the rate that of the board",
        ),
        ([LINK_MAGIC, 77], UnsupportedError, "the board has map 77; this driver is for map 1"),
    ],
)
def test_what_answers_is_no_board_of_ours(line, words, kind, said):
    async def run():
        master, path = line
        os.set_blocking(master, False)
        asyncio.get_running_loop().add_reader(
            master,
            lambda: os.read(master, 100) and os.write(master, b"".join(word.to_bytes(4) for word in words)),
        )
        with pytest.raises(kind, match=said):
            await BoardLink.open(f"serial:{path}")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("serial:", "^expected serial:///dev/DEVICE\\?baud=RATE, not 'serial:'$"),
        ("serial://host/dev/x", "^expected serial:///dev/DEVICE\\?baud=RATE, not"),
        ("serial:///dev/x?baud=fast", "baud must be a number of bits a second, not 'fast'$"),
        ("serial:///dev/x?baud=0", "baud must be a number of bits a second, not '0'$"),
        ("serial:///dev/x?bauds=9600", "the only option is baud, not 'bauds'; do you mean baud\\?$"),
        ("serial:///dev/nothing-here", "^serial:///dev/nothing-here: there is no such device$"),
        ("serial:///dev/null", "^serial:///dev/null: it is no serial line$"),
    ],
)
def test_urls_that_name_no_line(url, said):
    refused(url, said)


def test_the_rate_is_that_of_the_url():
    line = serial_wire.Line.of("serial:///dev/ttyUSB0?baud=115200")
    assert (line.path, line.baud) == ("/dev/ttyUSB0", 115_200)
    assert serial_wire.Line.of("serial:/dev/ttyUSB0") == serial_wire.Line("/dev/ttyUSB0", 3_000_000)
