# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A gateway as a script has it: the tables of :class:`~spigate.firmware_py.tables.interface.Tables`, and the
frames that come and go, in calls that return when it is done.
"""

import weakref
from collections.abc import Callable, Collection, Coroutine
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from spigate.firmware_py.api.bridge import Bridge
from spigate.firmware_py.api.inbox import Packet
from spigate.firmware_py.api.links import Link, prepare
from spigate.firmware_py.errors import InputError, SpigateError
from spigate.firmware_py.ipsec.sa import Sa, SaState, Selectors
from spigate.firmware_py.tables.bus import BusError
from spigate.firmware_py.tables.interface import (
    Attention,
    CamEntry,
    CamKey,
    CfeSettings,
    Counters,
    Event,
    Route,
    Rule,
    Source,
)
from spigate.firmware_py.tables.punt import InjectMode, Place
from spigate.hdl.contract.enums import Port

Given = ParamSpec("Given")
Result = TypeVar("Result")

RECEIVE_SECONDS = 10.0
PORTS = (Port.NETWORK, Port.SERVER)
ENTRANCES = frozenset({*PORTS, Port.RECIRCULATE})
EXITS = frozenset({*PORTS, Port.CE})


def open(url: str, settings: CfeSettings = CfeSettings()) -> "Gateway":  # noqa: B008 (immutable)
    """Opens a gateway, with empty tables.

    Parameters
    ----------
    url : str
        ``model:``
            The reference model of the gateware, in this process; needs nothing else, and starts at once.
        ``sim:``
            The gateware in a simulator that this call starts; needs ``spigate[sim]`` and g++, and the first
            time some minutes to compile. Options, with their defaults:
            ``sim:?dfes=1&lanes=1&beat-bytes=8&simulator=verilator``; ``waveform=FILE`` writes one.
        ``unix:PATH``
            The gateway in hardware at that socket, or a ``spigate simulate`` that runs elsewhere. All its
            tables are erased, and when it is closed, what was written since is erased, too.
    settings : CfeSettings
        Of the classifier; :meth:`Gateway.configure` changes them.

    Raises
    ------
    InputError
        The URL is none, or nobody answers there.
    UnsupportedError
        What answers is no gateway, or one of another version.
    ToolMissing
        Something that is needed is not installed; the message says what to install.
    SpigateError
        The simulator could not be built, or did not start.

    Examples
    --------
    >>> import spigate
    >>> with spigate.open("model:") as gateway:
    ...     gateway.capabilities.dfes
    2
    """
    connect = prepare(url)
    bridge = Bridge()
    try:
        link = bridge.call(connect)
        gateway = Gateway(url, bridge, link)
    except BaseException:
        bridge.close()
        raise
    try:
        gateway.configure(settings)
    except BaseException:
        gateway.close()
        raise
    return gateway


class Gateway:
    """A gateway that :func:`open` has opened. Use it with ``with``, or :meth:`close` it.

    Ctrl-C ends a call that waits, with KeyboardInterrupt. Threads may share a gateway.

    Members
    -------
    url : str
    capabilities : Capabilities
        What it has and can do: the sizes of its tables, its algorithms.
    """

    def __init__(self, url: str, bridge: Bridge, link: Link):
        self.url, self.capabilities = url, link.tables.capabilities
        self._bridge, self._link, self._tables = bridge, link, link.tables
        # Also where a script ends without closing it.
        self._close = weakref.finalize(self, _close, bridge, link)

    def __enter__(self) -> "Gateway":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and not self.closed:
                self.check()
        finally:
            self.close()

    def __repr__(self) -> str:
        return f"<Gateway {self.url}{', closed' if self.closed else ''}>"

    @property
    def closed(self) -> bool:
        return not self._close.alive

    def close(self) -> None:
        """Erases what was written to a gateway that goes on to run, ends a simulator. A second time nothing
        happens.
        """
        self._close()

    # Tables

    def configure(self, settings: CfeSettings) -> None:
        """Sets up the classifier: which decryptors take packets, how SAs are spread over them, what a miss
        becomes, limits of punts."""
        self._do(self._tables.configure, settings)

    def write_sa(
        self, dfe: int, index: int, sa: Sa, selectors: Selectors | None = None, *, generation: int = 0
    ) -> None:
        """Makes ``sa`` the SA ``index`` of decryptor ``dfe``.

        Parameters
        ----------
        dfe : int
            0 to ``capabilities.dfes - 1``.
        index : int
            0 to ``capabilities.sa_entries - 1``.
        sa : Sa
        selectors : Selectors or None
            What it decrypts must match them (RFC 4301 5.2); None: anything may come out.
        generation : int
            0 to 255. Only CAM entries and rules of the same generation lead to it.

        Raises
        ------
        UnsupportedError
            The gateway lacks something that the SA needs; the message names it.
        InputError
            An index is out of its range.
        """
        self._do(self._tables.write_sa, dfe, index, sa, selectors, generation=generation)

    def erase_sa(self, dfe: int, index: int) -> None:
        """Forgets an SA, its keys first of all."""
        self._do(self._tables.erase_sa, dfe, index)

    def stop_sa(self, dfe: int, index: int) -> bool:
        """Lets an SA take no more packets, and waits until those that it has have left: then its state
        stands still. False: that is not certain, because the decryptor takes nothing any more."""
        return self._do(self._tables.stop_sa, dfe, index)

    def read_state(self, dfe: int, index: int) -> SaState:
        """How far an SA is: sequence number, anti-replay window, bytes and packets."""
        return self._do(self._tables.read_state, dfe, index)

    def attention(self) -> list[Attention]:
        """The SAs that have reached a soft or a hard lifetime, or have few sequence numbers left."""
        return self._do(self._tables.attention)

    def add_cam(self, entry: CamEntry) -> None:
        """Leads the packets of an inbound SA, {destination, protocol, SPI}, to its place; an entry with the
        same key is replaced. TableFull where there is no room."""
        self._do(self._tables.add_cam, entry)

    def remove_cam(self, key: CamKey) -> None:
        """Removes a CAM entry; nothing happens where there is none."""
        self._do(self._tables.remove_cam, key)

    def add_rule(self, rule: Rule) -> None:
        """Says what becomes of clear packets. TableFull where there is no room."""
        self._do(self._tables.add_rule, rule)

    def replace_rule(self, old: Rule, new: Rule) -> None:
        """Puts ``new`` in the place of ``old``; packets see the one or the other. InputError where ``old``
        is not there."""
        self._do(self._tables.replace_rule, old, new)

    def remove_rule(self, rule: Rule) -> None:
        """Removes a rule; nothing happens where it is not there."""
        self._do(self._tables.remove_rule, rule)

    def write_route(self, index: int, route: Route | None) -> None:
        """Writes the route that CAM entries and rules name by ``index``; None erases it. InputError where
        the index is not 0 to ``capabilities.routes - 1``."""
        self._do(self._tables.write_route, index, route)

    def write_source(self, dfe: int, index: int, source: Source | None) -> None:
        """Writes an entry of a decryptor's list of those who may speak in the clear; None erases it.
        InputError where the index is not 0 to ``capabilities.sources - 1``."""
        self._do(self._tables.write_source, dfe, index, source)

    def check(self) -> None:
        """Asks whether the gateway has refused a write; the end of ``with`` asks, too.

        Raises
        ------
        BusError
            It has; the message says what.
        """
        self._do(self._link.check)

    # What it tells

    def counters(self) -> Counters:
        """All counters: of the classifier, of forwarding, of each decryptor; dropped packets by reason."""
        return self._do(self._tables.counters)

    def events(self) -> list[Event]:
        """What happened since the last call: packets dropped for a reason that RFC 4301 wants audited, soft
        lifetimes."""
        return self._do(self._tables.events)

    # Packets

    def send(self, port: Port, frame: bytes) -> None:
        """Lets a frame come in.

        Parameters
        ----------
        port : Port
            NETWORK, the untrusted side, or SERVER.
        frame : bytes
            From the Ethernet header on, without a frame check sequence.

        Raises
        ------
        UnsupportedError
            The ports of this gateway are not here: ``unix:``.
        InputError
            The port takes no frames, or the frame is empty.
        """
        self._check_frame(port, frame, PORTS)
        self._do(self._link.send, port, bytes(frame))

    def inject(
        self,
        mode: InjectMode,
        port: Port,
        frame: bytes,
        *,
        depth: int = 0,
        out_of: Place | None = None,
    ) -> None:
        """Sends a frame as the control element does.

        Parameters
        ----------
        mode : InjectMode
            CLASSIFY: as if it had come in at ``port``. DIRECT: out at ``port`` as it is, also in the clear.
        port : Port
            NETWORK or SERVER; with CLASSIFY also RECIRCULATE.
        depth : int
            Recirculations so far: that of the punt that it answers.
        out_of : Place or None
            The SA that the packet was decrypted by: that of the punt that it answers.

        Raises
        ------
        InputError
            The port takes no frames, or the frame is empty.
        """
        self._check_frame(port, frame, ENTRANCES if mode == InjectMode.CLASSIFY else PORTS)
        self._do(self._link.inject, mode, port, depth, bytes(frame), out_of)

    def receive(self, port: Port | None = None, *, timeout: float = RECEIVE_SECONDS) -> Packet:
        """The next frame that left.

        Parameters
        ----------
        port : Port or None
            NETWORK, SERVER, or CE for what is punted. None: whichever comes first.
        timeout : float
            Seconds to wait for one; a simulated gateway is slow. ``model:`` never waits.

        Raises
        ------
        ReceiveTimeout
            None came. ``events()`` and ``counters()`` tell why one was dropped.
        """
        if port is not None and port not in EXITS:
            raise InputError(f"port must be network, server or ce, not {port!r}")
        return self._bridge.call(self._link.inbox.get, EXITS if port is None else {port}, timeout)

    @property
    def lost(self) -> int:
        """Frames that left the gateway and found too many others waiting for :meth:`receive`."""
        return self._link.inbox.lost

    def _do(
        self,
        function: Callable[Given, Coroutine[Any, Any, Result]],
        *arguments: Given.args,
        **named: Given.kwargs,
    ) -> Result:
        try:
            return self._bridge.call_alone(function, *arguments, **named)
        except BusError as error:
            raise self._bridge.call(self._link.explain, error) from None

    @staticmethod
    def _check_frame(port: Port, frame: bytes, ports: Collection[Port]) -> None:
        if port not in ports:
            names = " or ".join(each.name.lower() for each in sorted(ports))
            raise InputError(f"port must be {names}, not {port!r}")
        if not frame:
            raise InputError("a frame must have at least one byte")


def _close(bridge: Bridge, link: Link) -> None:
    try:
        bridge.close(link.close)
    except SpigateError:
        # Whoever hung up hears nothing more; that he did was told by the call that found it.
        if link.inbox.failure is None:
            raise
