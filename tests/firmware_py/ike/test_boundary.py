# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What nobody expects ends one IKE SA at most: no exception leaves an endpoint, no timer stops another, no
SA stays without an owner.
"""

import pytest

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.engine import children, endpoint, ike_sa
from spigate.firmware_py.ike.engine.actions import Datagram, InstallSa, MoveSa
from spigate.firmware_py.ike.engine.boundary import Boundary, where
from spigate.firmware_py.ike.engine.strangers import PER_PERIOD
from spigate.firmware_py.ike.wire.payloads import Delete
from spigate.firmware_py.ike.wire.registry import ExchangeType, ProtocolId
from spigate.firmware_py.ipsec.sa import Lifetime
from tests.firmware_py.ike.network import child, joined, pair, reverse
from tests.firmware_py.ike.raw import RawInitiator, connected, events, gateway


def broken(*what, **named):
    raise ValueError("a secret, or what a stranger sent")


def test_datagram_ends_its_ike_sa_alone(monkeypatch):
    endpoint_ = gateway()
    one, other = connected(endpoint_, port=501), connected(endpoint_, port=502)
    monkeypatch.setattr(ike_sa.informational, "answer", broken)
    assert one.ask(1, ExchangeType.INFORMATIONAL) is None
    [told] = events(one.outputs, "internal-error")
    assert (
        told.text.startswith("ValueError at test_boundary.py:")
        and "secret" not in told.text
        and told.peer == "a"
    )
    [ike] = endpoint_.ikes
    assert ike.spi_i == other.spi_i and endpoint_.census()["child_sas"] == 1
    monkeypatch.undo()
    assert other.ask(1, ExchangeType.INFORMATIONAL) is not None


def test_flood_of_them_is_told_of_a_few_times(monkeypatch):
    """The same datagram again and again (audit s01)."""
    monkeypatch.setattr(endpoint.responder, "begin", broken)
    endpoint_, told = gateway(), 0
    for port in range(1000, 3000):
        raw = RawInitiator(endpoint_, port=port)
        raw.init(0)
        told += len(raw.outputs)
    assert told == PER_PERIOD and not endpoint_.census()["half_open"]
    endpoint_.tick(100)
    assert sum(each.count for each in endpoint_.take()) == 2000 - told
    assert not any(endpoint_.census().values())


def test_timer_stops_no_other(monkeypatch):
    """One IKE SA's soft limit breaks; the other's is met in the same tick (audit s20)."""
    endpoint_ = gateway(children=(reverse(child(soft=Lifetime(seconds=100), jitter=0)),))
    one, other = connected(endpoint_, port=501), connected(endpoint_, port=502)
    honest, broke = ike_sa.IkeSa.rekey_child, []

    def rekey_child(self, child_, now):
        if self.spi_i != one.spi_i:
            return honest(self, child_, now)
        broke.append(now)
        return broken()

    monkeypatch.setattr(ike_sa.IkeSa, "rekey_child", rekey_child)
    endpoint_.tick(99)
    assert not broke and not endpoint_.take()
    endpoint_.tick(100)
    outputs = endpoint_.take()
    [ike], [request] = (
        endpoint_.ikes,
        other.requests([each for each in outputs if isinstance(each, Datagram)]),
    )
    assert broke == [100] and events(outputs, "internal-error")
    assert ike.spi_i == other.spi_i and request.exchange == ExchangeType.CREATE_CHILD_SA
    assert endpoint_.next_timer > 100, "the next is waited for"


def test_restart_that_breaks_is_tried_again(monkeypatch):
    network, a, b = pair(a={"initiate": True})
    monkeypatch.setattr(endpoint, "Init", broken)
    a.start()
    network.run(25)
    assert a.kinds()["internal-error"] >= 2
    monkeypatch.undo()
    network.run(15)
    assert joined(a, b)


def test_end_goes_on_whatever_happens(monkeypatch):
    """A child that cannot be removed in order, and a peer whose end nobody can be told of."""
    endpoint_ = gateway(children=(child("net", "10.2.0.0/24=10.1.0.0/24"),))
    raw = connected(endpoint_)
    raw.create(0, 0x1001)
    raw.create(0, 0x1002)
    monkeypatch.setattr(children.ChildSa, "__str__", broken)
    monkeypatch.setattr(endpoint.Endpoint, "_gone", broken)
    raw.ask(1, ExchangeType.INFORMATIONAL, Delete(ProtocolId.IKE))
    assert len([each for each in raw.outputs if type(each).__name__ == "RemoveSa"]) == 6
    endpoint_.tick(100)
    assert not any(endpoint_.census().values())


def test_what_is_born_in_a_failure_goes_too(monkeypatch):
    """An heir that was made before something went wrong has no owner."""
    endpoint_ = gateway()
    raw = connected(endpoint_)
    monkeypatch.setattr(ike_sa.IkeSa, "expire", broken)
    with pytest.raises(AttributeError):  # there is no answer
        raw.rekey_ike(1)
    endpoint_.tick(1000)
    assert not any(endpoint_.census().values())


def test_output_that_cannot_be_done():
    """Where an SA cannot be installed, its child ends, and the peer is told."""
    endpoint_ = gateway()
    raw = connected(endpoint_)
    [install] = [
        each for each in raw.outputs if isinstance(each, InstallSa) and each.sa.direction.name == "INBOUND"
    ]
    endpoint_.undone(1, install, OSError("no room"))
    outputs = endpoint_.take()
    assert events(outputs, "internal-error") and not endpoint_.census()["child_sas"]
    [request] = raw.requests([each for each in outputs if hasattr(each, "data")])
    assert request.one(Delete).spis == (install.sa.spi.to_bytes(4),)
    endpoint_.undone(1, None, OSError("no room"))  # anything else


def test_move_that_cannot_be_done():
    endpoint_ = gateway()
    raw = connected(endpoint_)
    [install] = [
        each for each in raw.outputs if isinstance(each, InstallSa) and each.sa.direction.name == "OUTBOUND"
    ]
    endpoint_.undone(1, MoveSa(install.sa, install.sa), OSError("no such SA"))
    assert not endpoint_.census()["child_sas"] and raw.requests(
        [each for each in endpoint_.take() if hasattr(each, "data")]
    )


def test_commands_say_what_is_wrong(monkeypatch):
    endpoint_ = gateway()
    for command in (endpoint_.initiate, endpoint_.rekey, endpoint_.terminate):
        with pytest.raises(InputError):
            command(0, "nobody")
    monkeypatch.setattr(endpoint.Endpoint, "_initiate", broken)
    endpoint_.initiate(0, "a")
    assert events(endpoint_.take(), "internal-error")


def test_input_error_of_a_datagram_is_no_command_s(monkeypatch):
    def wrong(*what):
        raise InputError("a selector that cannot be (audit s22)")

    endpoint_ = gateway()
    raw = connected(endpoint_)
    monkeypatch.setattr(ike_sa.create_child, "answer", wrong)
    raw.create(1, 0x1001)
    assert events(raw.outputs, "internal-error") and not list(endpoint_.ikes)


def test_interrupts_pass():
    """Who stops the process stops it."""
    boundary = Boundary(broken)
    for kind in (KeyboardInterrupt, SystemExit):

        def stop(kind=kind):
            raise kind

        with pytest.raises(kind):
            boundary.run(0, stop)


def test_where():
    try:
        broken()
    except ValueError as error:
        assert where(error).count("test_boundary.py") == 2 and "stranger" not in where(error)
