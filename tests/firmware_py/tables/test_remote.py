# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The wire to a gateway behind a socket: its messages, and a control element's side of it against gateways
that are none.
"""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.tables import remote
from spigate.firmware_py.tables.bus import BusError
from spigate.firmware_py.tables.punt import InjectMode, PuntHeader, pack_punt, unpack_inject
from spigate.firmware_py.tables.punt_queues import ROOM
from spigate.firmware_py.tables.remote import (
    GREETING,
    MAX_BODY,
    Kind,
    Message,
    Messages,
    RemoteGateway,
    pack_words,
    path_of,
    unpack_words,
)
from spigate.hdl.contract.enums import Port, PuntClass, Reason

MESSAGES = st.lists(
    st.builds(Message, st.sampled_from(Kind), st.binary(max_size=40), st.integers(0, 0xFFFF), st.booleans()),
    max_size=5,
)


def test_messages_are_these_bytes():
    assert (
        Message(Kind.READ, pack_words([3]), 0x1234).pack().hex(" ", 1)
        == "00 00 34 12 04 00 00 00 03 00 00 00"
    )
    assert Message(Kind.WRITE, b"no", 4, refused=True).pack().hex(" ", 1) == "01 01 04 00 02 00 00 00 6e 6f"
    assert [Message(kind).pack()[0] for kind in (Kind.READ, Kind.WRITE, Kind.INJECT, Kind.PUNT)] == [
        0,
        1,
        2,
        3,
    ]


def test_a_stream_may_be_split_anywhere():
    sent = [
        Message(Kind.WRITE, pack_words([1, 2]), 8),
        Message(Kind.INJECT),
        Message(Kind.READ, b"why", 4, refused=True),
    ]
    data = b"".join(message.pack() for message in sent)
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            messages = Messages()
            assert (
                messages.feed(data[:first]) + messages.feed(data[first:second]) + messages.feed(data[second:])
                == sent
            )
    messages = Messages()
    assert [message for at in range(len(data)) for message in messages.feed(data[at : at + 1])] == sent


@given(MESSAGES, st.data())
def test_any_messages_come_out_as_they_went_in(sent, data):
    stream, messages, found = b"".join(message.pack() for message in sent), Messages(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += messages.feed(stream[:size])
        stream = stream[size:]
    assert found == sent


@pytest.mark.parametrize(
    "header", ["0400 0000 0000 0000", "0002 0000 0000 0000", "0000 0000 0100 0100", "4745 5420 2f20 4854"]
)
def test_what_is_no_message_is_refused_at_its_header(header):
    messages = Messages()
    data = bytes.fromhex(header)
    assert messages.feed(data[:-1]) == []
    with pytest.raises(InputError, match="no message"):
        messages.feed(data[-1:])


@given(st.binary(max_size=200))
def test_garbage_gives_messages_or_an_error(data):
    try:
        found = Messages().feed(data)
    except InputError:
        return
    assert data.startswith(b"".join(message.pack() for message in found))


def test_the_longest_body_is_a_message():
    assert Messages().feed(Message(Kind.READ, bytes(MAX_BODY)).pack())[0].body == bytes(MAX_BODY)


def test_words_are_little_endian_and_whole():
    assert pack_words([1, 0xFFFF_FFFE]) == bytes.fromhex("01000000 feffffff") and unpack_words(
        pack_words([1, 2])
    ) == [1, 2]
    with pytest.raises(InputError, match="3 bytes"):
        unpack_words(bytes(3))


def test_a_url_names_a_path():
    assert path_of("unix:/run/x.sock") == "/run/x.sock"
    for url in ("unix:", "/run/x.sock", "tcp://host:1", ""):
        with pytest.raises(InputError, match="unix:PATH"):
            path_of(url)


class Gateway:
    """Takes one control element after the other, and does what ``behave`` says, a coroutine function of
    reader and writer.
    """

    def __init__(self, path, behave, greeting=GREETING):
        self.url, self._path, self._behave, self._greeting = f"unix:{path}", path, behave, greeting

    async def __aenter__(self):
        self._server = await asyncio.start_unix_server(self._serve, str(self._path))
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        try:
            writer.write(self._greeting)
            await self._behave(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def request(reader):
    header = await reader.readexactly(8)
    [message] = Messages().feed(header + await reader.readexactly(int.from_bytes(header[4:], "little")))
    return message


def played(tmp_path, behave, work, greeting=GREETING):
    """What ``work`` does with the RemoteGateway."""

    async def run():
        async with Gateway(tmp_path / "gateway.sock", behave, greeting) as there:
            gateway = await RemoteGateway.open(there.url)
            try:
                return await asyncio.wait_for(work(gateway), 10)
            finally:
                await gateway.close()

    return asyncio.run(run())


async def memory(reader, writer):
    """A gateway of words, each its address until it is written; what is injected comes up again; 0x8000 and
    up is not there.
    """
    words = {}
    while True:
        asked = await request(reader)
        if asked.kind == Kind.INJECT:
            header, frame = unpack_inject(asked.body)
            answer = Message(
                Kind.PUNT, pack_punt(PuntHeader(Reason.NO_RULE, header.port, depth=header.depth), frame)
            )
        elif asked.address >= 0x8000:
            answer = Message(asked.kind, "not thére".encode(), asked.address, refused=True)
        elif asked.kind == Kind.WRITE:
            words.update((asked.address + 4 * at, word) for at, word in enumerate(unpack_words(asked.body)))
            answer = Message(Kind.WRITE, b"", asked.address)
        else:
            [count] = unpack_words(asked.body)
            addresses = range(asked.address, asked.address + 4 * count, 4)
            answer = Message(
                Kind.READ, pack_words([words.get(address, address) for address in addresses]), asked.address
            )
        writer.write(answer.pack())


def test_bursts_and_frames(tmp_path):
    async def work(gateway):
        await gateway.write(8, [1, 2])
        assert await gateway.read(4, 4) == [4, 1, 2, 16]
        with pytest.raises(BusError, match="^not thére$"):
            await gateway.read(0x8000)
        await gateway.inject(InjectMode.CLASSIFY, Port.SERVER, 2, b"frame")
        assert await gateway.receive() == (PuntHeader(Reason.NO_RULE, Port.SERVER, depth=2), b"frame")
        assert await asyncio.gather(*(gateway.read(4 * at) for at in range(100))) == [
            [4 * at if at not in (2, 3) else at - 1] for at in range(100)
        ]
        for address, count in ((2, 1), (0, 0), (0xFFFC, 2)):
            with pytest.raises(InputError):
                await gateway.read(address, count)

    played(tmp_path, memory, work)


def test_punts_that_nobody_takes_are_lost_and_counted(tmp_path):
    async def flood(reader, writer):
        for number in range(ROOM[PuntClass.REST] + 7):
            writer.write(
                Message(
                    Kind.PUNT, pack_punt(PuntHeader(Reason.NO_RULE, Port.SERVER, sa=number), b"frame")
                ).pack()
            )
        await memory(reader, writer)

    async def work(gateway):
        await gateway.read(0)
        assert (gateway.take_lost(), gateway.take_lost()) == ({PuntClass.REST: 7}, {})
        assert [(await gateway.receive())[0].sa for _ in range(ROOM[PuntClass.REST])] == list(
            range(ROOM[PuntClass.REST])
        )

    played(tmp_path, flood, work)


async def silent(reader, writer):
    await reader.read()


async def hangs_up(reader, writer):
    await request(reader)


async def hangs_up_in_the_middle(reader, writer):
    await request(reader)
    writer.write(Message(Kind.READ, pack_words([1])).pack()[:-1])
    await writer.drain()


async def answers_another_kind(reader, writer):
    await request(reader)
    writer.write(Message(Kind.WRITE).pack())
    await reader.read()


async def answers_too_few_words(reader, writer):
    await request(reader)
    writer.write(Message(Kind.READ, pack_words([])).pack())
    await reader.read()


async def answers_no_whole_words(reader, writer):
    await request(reader)
    writer.write(Message(Kind.READ, bytes(5)).pack())
    await reader.read()


async def answers_garbage(reader, writer):
    await request(reader)
    writer.write(b"\xff" * 64)
    await reader.read()


@pytest.mark.parametrize(
    "behave, text",
    [
        (hangs_up, "hung up"),
        (hangs_up_in_the_middle, "hung up"),
        (answers_another_kind, "answered what was not asked"),
        (answers_too_few_words, "answered 0 bytes, not 1 words"),
        (answers_no_whole_words, "answered 5 bytes, not 1 words"),
        (answers_garbage, "no message"),
        (silent, "no answer within"),
    ],
)
def test_from_what_a_gateway_does_wrong_there_is_no_way_back(tmp_path, behave, text, monkeypatch):
    monkeypatch.setattr(remote, "ANSWER_SECONDS", 0.3)

    async def work(gateway):
        receiving = asyncio.create_task(gateway.receive())
        with pytest.raises(BusError, match=text):
            await gateway.read(0)
        for again in (
            lambda: gateway.read(0),
            lambda: gateway.write(0, [1]),
            gateway.receive,
            lambda: receiving,
            lambda: gateway.inject(InjectMode.DIRECT, Port.SERVER, 0, b"frame"),
        ):
            with pytest.raises(BusError, match=text):
                await again()

    played(tmp_path, behave, work)


def test_a_gateway_that_takes_nothing_any_more_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "ANSWER_SECONDS", 0.3)

    async def work(gateway):
        with pytest.raises(BusError, match="takes nothing for 0 s"):
            while True:
                await gateway.inject(InjectMode.DIRECT, Port.SERVER, 0, bytes(60000))
        with pytest.raises(BusError, match="takes nothing"):
            await gateway.receive()

    played(tmp_path, lambda reader, writer: asyncio.sleep(9), work)


def test_who_waits_hears_that_it_is_closed(tmp_path):
    async def work(gateway):
        waiting = asyncio.gather(gateway.receive(), gateway.read(0), return_exceptions=True)
        await asyncio.sleep(0.05)
        await gateway.close()
        assert all(isinstance(error, BusError) for error in await waiting)

    played(tmp_path, silent, work)


def test_who_asks_can_be_cancelled_at_any_moment(tmp_path):
    """Also while the answer is coming."""

    async def ask_for_ever(gateway):
        while True:
            await gateway.read(0)

    async def work(gateway):
        for turns in range(200):
            asking = asyncio.create_task(ask_for_ever(gateway))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking], timeout=0.5)
            assert asking.cancelled()

    played(tmp_path, memory, work)


def test_an_answer_that_nobody_asked_for_ends_it(tmp_path):
    async def talks(reader, writer):
        writer.write(Message(Kind.WRITE).pack())
        await reader.read()

    async def work(gateway):
        with pytest.raises(BusError, match="answered what was not asked"):
            await gateway.receive()

    played(tmp_path, talks, work)


def test_one_that_is_killed_hung_up(tmp_path):
    async def killed(reader, writer):
        writer.transport.pause_reading()
        await asyncio.sleep(0.1)  # what was asked meanwhile is never read: the connection is reset

    async def work(gateway):
        with pytest.raises(BusError, match="sock: the gateway hung up$"):
            await gateway.read(0)

    played(tmp_path, killed, work)


def test_who_waits_when_it_hangs_up_hears_it(tmp_path):
    async def late(reader, writer):
        for _ in range(3):
            await request(reader)

    async def work(gateway):
        results = await asyncio.gather(
            *(gateway.read(4 * at) for at in range(3)), gateway.receive(), return_exceptions=True
        )
        assert all(isinstance(result, BusError) and "hung up" in str(result) for result in results)

    played(tmp_path, late, work)


@pytest.mark.parametrize("greeting", [b"", b"spigate", b"SSH-2.0-OpenSSH"])
def test_what_does_not_greet_is_no_gateway(tmp_path, greeting, monkeypatch):
    monkeypatch.setattr(remote, "ANSWER_SECONDS", 0.3)

    async def ends(reader, writer):
        await writer.drain()

    for behave in (ends, silent):
        with pytest.raises(InputError, match="no gateway answers there"):
            played(tmp_path, behave, None, greeting)


def test_where_nobody_is_there_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match="No such file or directory; is the gateway running"):
        asyncio.run(RemoteGateway.open(f"unix:{tmp_path / 'absent'}"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Connection refused"):
        asyncio.run(RemoteGateway.open(f"unix:{tmp_path / 'file'}"))
