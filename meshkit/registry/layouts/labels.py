"""Endpoints in formats that have one flat map of texts for all that is not an address."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from meshkit.endpoint import DEFAULT_WEIGHT, Endpoint, State
from meshkit.registry.layouts.reading import read_weight

__all__ = ["label", "labelled"]


def label(endpoint: Endpoint, *, but: Iterable[str] = ()) -> dict[str, str]:
    """What `endpoint` says beside its address; of our own fields what differs from the default.

    Args:
        endpoint: whose labels; those that share a name with a field of ours are not written.
        but: fields that have a place of their own in the format.
    """
    fields = {
        "weight": str(endpoint.weight) if endpoint.weight != DEFAULT_WEIGHT else "",
        "zone": endpoint.zone,
        "version": endpoint.version,
        "state": endpoint.state.value if endpoint.state is not State.SERVING else "",
        "keepalive": f"{endpoint.keepalive:g}" if endpoint.keepalive else "",
    }
    own = {name: text for name, text in fields.items() if text and name not in but}
    free = {name: text for name, text in endpoint.metadata.items() if name not in fields}
    return own | dict(sorted(free.items()))


def labelled(endpoint: Endpoint, labels: Mapping[str, str]) -> Endpoint:
    """`endpoint` with what its labels say; what cannot be understood counts as not said."""
    free = dict(labels)
    state, weight = free.pop("state", ""), endpoint.weight
    with suppress(ValueError):
        weight = read_weight(free.pop("weight", weight))
    try:
        keepalive = float(free.pop("keepalive", ""))
    except ValueError:
        keepalive = 0.0
    return replace(
        endpoint,
        weight=weight,
        zone=free.pop("zone", endpoint.zone),
        version=free.pop("version", endpoint.version),
        state=State.DRAINING if state == State.DRAINING else endpoint.state,
        keepalive=keepalive if 0 < keepalive < math.inf else 0.0,
        metadata=free,
    )
