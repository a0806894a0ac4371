"""Nodes and endpoint sets for tests of balancing."""

import random
from typing import Any

from meshkit.balancer import Balancer
from meshkit.balancer.load import Load
from meshkit.balancer.policies import Picker, Policy
from meshkit.endpoint import Endpoint, EndpointSet


class FakeNode(Load):
    """A node without a connection: an endpoint and its pending calls."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self.endpoint = endpoint

    def __repr__(self) -> str:
        return f"<FakeNode {self.endpoint.id}>"


class Call:
    """What a picker may know of a call."""

    def __init__(self, path: str = "/Orders/Get", **metadata: str) -> None:
        self.path = path
        self.metadata = tuple(metadata.items())


CALL = Call()


def picker_of(policy: type[Policy], rng: random.Random) -> Picker:
    """The picker of a policy with its default parameters, in a world where time stands still."""
    return policy().picker(rng, lambda: 0.0)


def new_balancer(picker: Picker, **options: Any) -> Balancer[FakeNode]:
    """A balancer that knows no endpoint yet."""
    options = {"make_node": FakeNode, "rng": random.Random(1), "now": lambda: 0.0} | options
    return Balancer("orders", picker=picker, **options)


def endpoint(name: str, address: str = "", **fields) -> Endpoint:
    return Endpoint(service="orders", id=name, address=address or f"{name}:50051", **fields)


def endpoints(*members: Endpoint | str, revision: int = 1) -> EndpointSet:
    made = [endpoint(m) if isinstance(m, str) else m for m in members]
    return EndpointSet.of("orders", made, revision=revision)


def nodes(*names: str) -> tuple[FakeNode, ...]:
    return tuple(FakeNode(endpoint(name)) for name in names)
