# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A script with a gateway: the same story with the model, and with the gateware in Verilator."""

import gc
import threading
import weakref
from ipaddress import ip_address, ip_network

import pytest

import spigate
from spigate import Action, CamEntry, CamKey, CfeSettings, InjectMode, Port, Reason, Route, Rule, Selectors

PEER, OURS = ip_address("192.0.2.1"), ip_address("192.0.2.2")
SPI = 0x7D2F38AB
SECRET = bytes.fromhex("6bb3a7f11512020a421c634521d5941daa4acfea")
ESP = bytes.fromhex(
    "020000000002020000000001080045000054000040004032b674c0000201c00002027d2f38ab0000000135e3868c4353cb49ba"
    "0a93c5a4e38128da1a7153beec2e46544a6be3d80683ec6f47860bf22f486fff71d2fa4902cf30402c1de9fd0dceef"
)
"""The first frame of the capture esp-tunnel-gcm128: Linux encrypted it."""
INNER = bytes.fromhex("4500001c292940003e11ff910a01000a0a02000a9c4b0fa000083fdc")
"""What Linux sent on, in server-out.pcap: its router has counted down the time to live."""
MACS = bytes.fromhex("020000000210"), bytes.fromhex("020000000201")
SA = spigate.Sa(
    direction=spigate.Direction.INBOUND,
    mode=spigate.Mode.TUNNEL,
    source=PEER,
    destination=OURS,
    spi=SPI,
    cipher=spigate.Cipher.AES_GCM,
    key=SECRET[:16],
    salt=SECRET[16:],
    icv_bytes=16,
)
OUTBOUND = spigate.Sa(
    direction=spigate.Direction.OUTBOUND,
    mode=spigate.Mode.TUNNEL,
    source=OURS,
    destination=PEER,
    spi=0x1000,
    cipher=spigate.Cipher.AES_CBC,
    key=bytes(range(16)),
    auth=spigate.Auth.HMAC_SHA256_128,
    auth_key=bytes(range(32)),
)
EVERYTHING = Selectors(ip_network("0.0.0.0/0"), ip_network("0.0.0.0/0"))


@pytest.fixture(
    params=["model:", pytest.param("sim:", marks=[pytest.mark.xdist_group("live"), pytest.mark.slow])]
)
def gateway(request):
    with spigate.open(request.param) as opened:
        yield opened


def learn(gateway, **rule):
    """Linux's SA, as SA 7 of decryptor 0, and what leads to it."""
    gateway.write_sa(0, 7, SA, generation=5)
    gateway.write_route(3, Route(Port.SERVER, *MACS, decrement_ttl=True))
    gateway.add_cam(CamEntry(CamKey(OURS, SPI), dfe=0, sa=7, route=3, generation=5))


def test_a_cold_start_to_the_end_of_an_sa(gateway):
    gateway.send(Port.NETWORK, ESP)
    punt = gateway.receive()
    assert (punt.port, punt.reason, punt.frame) == (Port.CE, Reason.UNKNOWN_SPI, ESP)
    assert (punt.punt.ingress, punt.punt.depth, punt.punt.rule) == (Port.NETWORK, 0, None)

    learn(gateway)
    gateway.inject(InjectMode.CLASSIFY, punt.punt.ingress, punt.frame)
    packet = gateway.receive(Port.SERVER)
    assert packet == spigate.Packet(Port.SERVER, MACS[0] + MACS[1] + b"\x08\0" + INNER)
    assert packet.reason == Reason.NONE
    state = gateway.read_state(0, 7)
    assert (state.sequence, state.packets, state.bytes) == (1, 1, len(INNER))

    gateway.send(Port.NETWORK, ESP)
    with pytest.raises(spigate.ReceiveTimeout, match="no frame left at port network or server or ce"):
        gateway.receive(timeout=2)
    [event] = gateway.events()
    assert (event.reason, event.dropped, event.spi, event.sequence) == (Reason.REPLAY, True, SPI, 1)
    assert (event.source, event.destination, event.dfe, event.sa) == (PEER, OURS, 0, 7)
    assert gateway.events() == []
    counters = gateway.counters()
    assert counters.drops == {Reason.REPLAY: 1} and counters.drops[Reason.ICV] == 0
    assert (counters.dfes[0]["decrypted"], counters.dfes[0]["encrypted"]) == (1, 0)
    assert (counters.cfe["network_in"], counters.cfe["inject_in"], counters.cfe["hits"]) == (2, 1, 2)

    assert gateway.stop_sa(0, 7) and gateway.attention() == []
    gateway.remove_cam(CamKey(OURS, SPI))
    gateway.erase_sa(0, 7)
    gateway.send(Port.NETWORK, ESP)
    assert gateway.receive(Port.CE).reason in (Reason.UNKNOWN_SPI, Reason.SA_ABSENT)


def test_rules_and_routes(gateway):
    """A clear packet meets no rule, is encrypted by one and bypassed by another; the peer's software opens
    what was encrypted."""
    clear = MACS[0] + MACS[1] + b"\x08\0" + INNER
    gateway.configure(CfeSettings(miss_interval=0))
    gateway.write_route(0, Route(Port.NETWORK))
    gateway.write_route(1, Route(Port.SERVER))
    gateway.send(Port.SERVER, clear)
    assert gateway.receive().reason == Reason.NO_RULE

    protect = Rule(EVERYTHING, frozenset({Port.SERVER}), Action.PROTECT, dfe=0, sa=1, route=0)
    gateway.write_sa(0, 1, OUTBOUND)
    gateway.add_rule(protect)
    gateway.send(Port.SERVER, clear)
    sent = gateway.receive(Port.NETWORK).frame
    peer = spigate.SoftSa(
        spigate.Sa(**{**vars(OUTBOUND), "direction": spigate.Direction.INBOUND}), [EVERYTHING]
    )
    assert peer.decapsulate(sent[14:]) == INNER

    bypass = Rule(EVERYTHING, frozenset({Port.SERVER}), Action.BYPASS, route=0, clear=True)
    for dfe in range(gateway.capabilities.dfes):
        gateway.write_source(dfe, 0, spigate.Source(ip_network("10.1.0.0/16"), frozenset({Port.SERVER})))
    gateway.replace_rule(protect, bypass)
    gateway.send(Port.SERVER, clear)
    assert gateway.receive(Port.NETWORK).frame == clear
    gateway.remove_rule(bypass)
    gateway.send(Port.SERVER, clear)
    assert gateway.receive().reason == Reason.NO_RULE
    gateway.inject(InjectMode.DIRECT, Port.NETWORK, clear)
    assert gateway.receive() == spigate.Packet(Port.NETWORK, clear)


def test_what_the_guard_stops_is_told(gateway):
    """Wrong tables do not end a simulation: they are what a script may want to see."""
    gateway.write_sa(0, 7, SA)
    gateway.write_route(3, Route(Port.NETWORK))
    gateway.add_cam(CamEntry(CamKey(OURS, SPI), dfe=0, sa=7, route=3))
    gateway.send(Port.NETWORK, ESP)
    with pytest.raises(spigate.ReceiveTimeout):
        gateway.receive(timeout=2)
    assert [event.reason for event in gateway.events()] == [Reason.GUARD]


def test_it_says_what_is_wrong(gateway):
    has = gateway.capabilities
    with pytest.raises(spigate.InputError, match=rf"sa index must be 0 to {has.sa_entries - 1}, not 70000"):
        gateway.write_sa(0, 70_000, SA)
    with pytest.raises(spigate.InputError, match=rf"dfe must be 0 to {has.dfes - 1}, not 9"):
        gateway.write_sa(9, 0, SA)
    with pytest.raises(spigate.InputError, match=rf"route index must be 0 to {has.routes - 1}, not -1"):
        gateway.write_route(-1, None)
    with pytest.raises(spigate.UnsupportedError, match="The gateway lacks chacha20-poly1305, which inbound"):
        gateway.write_sa(
            0,
            0,
            spigate.Sa(
                **{**vars(SA), "cipher": spigate.Cipher.CHACHA20_POLY1305, "key": bytes(32), "salt": bytes(4)}
            ),
        )
    rule = Rule(EVERYTHING, frozenset({Port.SERVER}), Action.DISCARD)
    with pytest.raises(spigate.TableFull, match=rf"The rules are full: {has.rules} entries"):
        for _ in range(has.rules + 1):
            gateway.add_rule(rule)
    with pytest.raises(spigate.InputError, match="port must be network or server, not <Port.CE: 2>"):
        gateway.send(Port.CE, ESP)
    with pytest.raises(spigate.InputError, match="port must be network or server or recirculate"):
        gateway.inject(InjectMode.CLASSIFY, Port.CE, ESP)
    with pytest.raises(spigate.InputError, match="port must be network or server, not"):
        gateway.inject(InjectMode.DIRECT, Port.RECIRCULATE, ESP)
    with pytest.raises(spigate.InputError, match="port must be network, server or ce, not <Port.REC"):
        gateway.receive(Port.RECIRCULATE)
    with pytest.raises(spigate.InputError, match="a frame must have at least one byte"):
        gateway.send(Port.NETWORK, b"")
    gateway.check()


def test_a_script_may_fill_a_port_before_it_reads(gateway):
    """More than sockets hold."""
    learn(gateway)
    gateway.inject(InjectMode.DIRECT, Port.SERVER, ESP)
    frames = [ESP[:-2] + number.to_bytes(2) for number in range(400)]
    for frame in frames:
        gateway.inject(InjectMode.DIRECT, Port.SERVER, frame)
    assert [gateway.receive(Port.SERVER).frame for _ in range(401)] == [ESP, *frames]
    assert gateway.lost == 0


def test_when_it_is_closed_every_call_says_so():
    gateway = spigate.open("model:")
    assert repr(gateway) == "<Gateway model:>" and not gateway.closed
    gateway.close()
    gateway.close()
    assert repr(gateway) == "<Gateway model:, closed>" and gateway.closed
    for call in (gateway.counters, gateway.receive, lambda: gateway.send(Port.NETWORK, ESP)):
        with pytest.raises(spigate.InputError, match="the gateway must be open, and it has been closed"):
            call()


def test_who_waits_while_it_is_closed_hears_so(tmp_path):
    from tests.firmware_py.api.served import served

    with served(tmp_path / "gateway") as hardware:
        gateway, heard = spigate.open(hardware.url), []

        def wait():
            try:
                gateway.receive(timeout=60)
            except spigate.SpigateError as error:
                heard.append(str(error))

        thread = threading.Thread(target=wait)
        thread.start()
        gateway.close()
        thread.join(10)
    assert not thread.is_alive() and len(heard) == 1, heard


def test_one_that_nobody_keeps_is_closed():
    before = threading.active_count()
    gateway = spigate.open("model:")
    gone = weakref.ref(gateway)
    del gateway
    gc.collect()
    assert gone() is None and threading.active_count() == before


def test_garbage_may_be_collected_in_any_thread():
    """In the link's own, too, where nobody can wait for the link."""
    gateway = spigate.open("model:")
    bridge, thread = gateway._bridge, gateway._bridge._thread

    async def collect(holds=[gateway]):  # noqa: B006 (the last reference)
        holds.clear()

    gone = weakref.ref(gateway)
    del gateway
    bridge.call(collect)
    thread.join(10)
    assert gone() is None and not thread.is_alive()


def test_threads_may_share_it():
    with spigate.open("model:") as gateway:
        learn(gateway)

        def work(first):
            for index in range(first, first + 50):
                gateway.write_sa(1, index, SA)
                gateway.erase_sa(1, index)

        threads = [threading.Thread(target=work, args=(50 * each,)) for each in range(4)]
        for thread in threads:
            thread.start()
        gateway.send(Port.NETWORK, ESP)
        assert gateway.receive().frame.endswith(INNER)
        for thread in threads:
            thread.join()


def test_it_works_where_another_event_loop_runs():
    """As in a notebook."""
    import asyncio

    async def cell():
        with spigate.open("model:") as gateway:
            return gateway.counters().drops

    assert asyncio.run(cell()) == {}
