"""Nodes and endpoint sets for tests of balancing."""

from meshkit.balancer.load import PendingCalls
from meshkit.endpoint import Endpoint, EndpointSet


class FakeNode(PendingCalls):
    """A node without a connection: an endpoint and its pending calls."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self.endpoint = endpoint

    def __repr__(self) -> str:
        return f"<FakeNode {self.endpoint.id}>"


def endpoint(name: str, address: str = "", **fields) -> Endpoint:
    return Endpoint(service="orders", id=name, address=address or f"{name}:50051", **fields)


def endpoints(*members: Endpoint | str, revision: int = 1) -> EndpointSet:
    made = [endpoint(m) if isinstance(m, str) else m for m in members]
    return EndpointSet.of("orders", made, revision=revision)


def nodes(*names: str) -> tuple[FakeNode, ...]:
    return tuple(FakeNode(endpoint(name)) for name in names)
