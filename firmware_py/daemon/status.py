# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What a gateway shows: rows for tables and JSON, and metrics for Prometheus. Nothing secret."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict

from spigate.firmware_py.daemon.control_socket import Row
from spigate.firmware_py.daemon.dataplane import Active, DataPlane, Metric
from spigate.firmware_py.ike.engine.actions import Event
from spigate.firmware_py.ike.engine.endpoint import Endpoint
from spigate.firmware_py.ipsec.policy import Policy
from spigate.firmware_py.ipsec.sa import ANY_PORTS, ESP, Selectors
from spigate.hdl.contract.enums import Direction


def sas(plane: DataPlane, now: float) -> list[Row]:
    """SAs of ESP and AH."""
    return [_sa(each, now) for each in plane.sas]


def _sa(active: Active, now: float) -> Row:
    sa, state = active.sa, active.state
    return {
        "peer": active.peer,
        "child": active.child,
        "direction": sa.direction.name.lower(),
        "protocol": ("esp" if sa.protocol == ESP else "ah") + ("-in-udp" if sa.encapsulation else ""),
        "mode": sa.mode.name.lower(),
        "spi": f"{sa.spi:08x}",
        "source": str(sa.source),
        "destination": str(sa.destination),
        "suite": sa.suite,
        "esn": sa.esn,
        "sequence": state.sequence,
        "packets": state.packets,
        "bytes": state.bytes,
        "seconds": int(now - active.since),
        "where": active.where,
    }


def ikes(endpoint: Endpoint, now: float) -> list[Row]:
    """IKE SAs."""
    return [
        {
            "peer": ike.peer.name if ike.peer else "",
            "state": ike.state.name.lower(),
            "role": "initiator" if ike.initiator else "responder",
            "local": str(ike.path.local),
            "remote": str(ike.path.remote),
            "identity": str(ike.identity or ""),
            "suite": str(ike.suite) if ike.protection is not None else "",
            "children": sorted({child.config.name for child in ike.children.values()}),
            "spis": ike.name,
            "seconds": int(now - ike.created),
        }
        for ike in endpoint.ikes
    ]


def policies(plane: DataPlane) -> list[Row]:
    """Policies, in the order in which they decide."""
    return [_policy(each) for each in plane.policies]


def _policy(policy: Policy) -> Row:
    selectors = policy.selectors
    return {
        "direction": policy.direction.value,
        "action": policy.action.value,
        "source": str(selectors.source),
        "destination": str(selectors.destination),
        "protocol": selectors.protocol,
        "ports": _ports(selectors),
        "reqid": policy.templates[0].reqid if policy.templates else None,
    }


def _ports(selectors: Selectors) -> str:
    both = (selectors.source_ports, selectors.destination_ports)
    return "" if both == (ANY_PORTS, ANY_PORTS) else " -> ".join(map(_range, both))


def _range(ports: tuple[int, int]) -> str:
    low, high = ports
    if ports == ANY_PORTS:
        return "any"
    return str(low) if low == high else f"{low}-{high}"


def event(event: Event, time: str) -> Row:
    """An event, and when it was."""
    return {"time": time, **asdict(event), "kind": event.kind.value}


def metrics(endpoint: Endpoint, plane: DataPlane, events: Mapping[str, int]) -> str:
    """The text that Prometheus reads (exposition format 0.0.4)."""
    states: dict[str, int] = {"connecting": 0, "established": 0}
    for ike in endpoint.ikes:
        states[ike.state.name.lower()] = states.get(ike.state.name.lower(), 0) + 1
    directions = {"inbound": 0, "outbound": 0}
    for each in plane.sas:
        directions["inbound" if each.sa.direction == Direction.INBOUND else "outbound"] += 1
    found = [
        Metric("ike_sas", "gauge", "IKE SAs, by state.", "state", states),
        Metric(
            "half_open",
            "gauge",
            "Handshakes that peers began and have not finished.",
            "",
            {"": endpoint.half_open},
        ),
        Metric("sas", "gauge", "SAs of ESP and AH, by direction.", "direction", directions),
        Metric("policies", "gauge", "Policies.", "", {"": len(list(plane.policies))}),
        *plane.metrics(),
        Metric("events_total", "counter", "Events, by kind.", "kind", events),
    ]
    return "\n".join(line for metric in found for line in _lines(metric)) + "\n"


def _lines(metric: Metric) -> Iterable[str]:
    yield f"# HELP spigate_{metric.name} {metric.text}"
    yield f"# TYPE spigate_{metric.name} {metric.kind}"
    for key, value in sorted(metric.values.items()):
        labels = f'{{{metric.label}="{key}"}}' if metric.label else ""
        yield f"spigate_{metric.name}{labels} {value}"
