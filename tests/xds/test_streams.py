"""Streams over a registry that misbehaves, in virtual time; without gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anyio
import pytest
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.json_format import ParseDict
from google.rpc.status_pb2 import Status
from grpc import aio

from meshkit.endpoint import Endpoint
from meshkit.events import (
    HostUnknown,
    XdsClientConnected,
    XdsClientLeft,
    XdsNamesRefused,
    XdsResourcesRefused,
)
from meshkit.registry.layouts import MeshkitLayout
from meshkit.registry.outage import loop_time
from meshkit.testing.virtual_clock import VirtualClockLoop
from meshkit.xds.ads import Stream
from meshkit.xds.catalogue import Catalogue
from meshkit.xds.envoy import EnvoyScope, Port
from meshkit.xds.hosts import Hosts
from meshkit.xds.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE
from meshkit.xds.wire import Delta, StateOfTheWorld
from tests.registry.tasks.fakes import Bench

pytestmark = pytest.mark.anyio

GRPC = Node(id="n", user_agent_name="gRPC test")


def envoy(*ports, services=None):
    scope = EnvoyScope(ports=ports, services=services)
    return ParseDict(
        {"id": "e", "user_agent_name": "envoy", "metadata": {"meshkit": scope.to_json()}}, Node()
    )


class Room(Bench):
    """A catalogue over a bench, and the streams of a test."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, str] = {}
        self.catalogue: Catalogue | None = None

    async def look_up(self, host):
        if host not in self.names:
            raise OSError("no such host")
        return self.names[host]

    async def announce(self, *numbers, service="hello", **fields):
        """Write endpoints with IPs, as somebody else."""
        endpoints = (
            Endpoint(service=service, id=f"e{n}", address=f"10.0.0.{n}:1", **fields)
            for n in numbers
        )
        await self.write_endpoints(*endpoints)

    async def write_endpoints(self, *endpoints):
        await self.store.inner.put(
            dict(MeshkitLayout().encode("default", each) for each in endpoints), lease=0
        )


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualClockLoop}


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    room = Room()
    await room.supervisor.open()
    hosts = Hosts(room.events.append, room.look_up)
    room.catalogue = Catalogue(room.registry, hosts, room.supervisor, loop_time)
    yield room
    room.store.faults.clear()
    await room.catalogue.aclose()
    await room.registry.aclose()
    await room.supervisor.aclose()


class Caller:
    """The client's end of a stream; a `Context` for the server's."""

    def __init__(self, room: Room, node=GRPC, *, delta=False) -> None:
        self.delta = delta
        self.node = node
        self._requests: asyncio.Queue = asyncio.Queue()
        self.answers: list = []
        self.reads = anyio.Event()
        self.reads.set()
        variant = Delta() if delta else StateOfTheWorld()
        self.stream = Stream(variant, self, room.catalogue, room.events.append)

    # -- what gRPC would give the server

    async def read(self):
        return await self._requests.get()

    async def write(self, message) -> None:
        await self.reads.wait()
        kind = (
            discovery_pb2.DeltaDiscoveryResponse
            if self.delta
            else (discovery_pb2.DiscoveryResponse)
        )
        self.answers.append(kind.FromString(message))

    def peer(self) -> str:
        return "ipv4:10.1.1.1:1"

    # -- what a test does

    def ask(self, type_url, *names, nonce="", error="", version=""):
        detail = Status(message=error) if error else None
        if self.delta:
            request = discovery_pb2.DeltaDiscoveryRequest(
                node=self.node, type_url=type_url, resource_names_subscribe=names,
                response_nonce=nonce, error_detail=detail,
            )  # fmt: skip
        else:
            request = discovery_pb2.DiscoveryRequest(
                node=self.node, type_url=type_url, resource_names=names, response_nonce=nonce,
                error_detail=detail, version_info=version,
            )  # fmt: skip
        self._requests.put_nowait(request.SerializeToString())

    def acknowledge(self, *names, error=""):
        answer = self.answers[-1]
        self.ask(answer.type_url, *names, nonce=answer.nonce, error=error)

    def hang_up(self):
        self._requests.put_nowait(aio.EOF)

    def types(self):
        return [answer.type_url.rpartition(".")[2] for answer in self.answers]


def ips(answer):
    [resource] = answer.resources
    found = ClusterLoadAssignment.FromString(resource.value)
    return [
        e.endpoint.address.socket_address.address
        for locality in found.endpoints
        for e in locality.lb_endpoints
    ]


@pytest.fixture
async def group() -> AsyncIterator[anyio.abc.TaskGroup]:
    async with anyio.create_task_group() as group:
        yield group
        group.cancel_scope.cancel()


async def test_endpoints_are_sent_and_sent_again_when_they_change(room, group):
    await room.announce(1)
    caller = Caller(room)
    group.start_soon(caller.stream.run)
    caller.ask(ENDPOINT, "hello")
    await anyio.sleep(0.1)
    await room.announce(2)
    await anyio.sleep(0.1)
    assert [ips(answer) for answer in caller.answers] == [["10.0.0.1"], ["10.0.0.1", "10.0.0.2"]]


async def test_a_client_that_does_not_read_gets_the_newest_when_it_does(room, group):
    caller = Caller(room)
    group.start_soon(caller.stream.run)
    await room.announce(1)
    caller.reads = anyio.Event()
    caller.ask(ENDPOINT, "hello")
    await anyio.sleep(0.1)
    for number in range(2, 50):
        await room.announce(number)
        await anyio.sleep(0.1)
    caller.reads.set()
    await anyio.sleep(0.1)
    assert [len(ips(answer)) for answer in caller.answers] == [1, 49]


async def test_a_storm_is_a_few_answers(room, group):
    caller = Caller(room)
    group.start_soon(caller.stream.run)
    caller.ask(ENDPOINT, "hello")
    await anyio.sleep(0.1)
    for number in range(1, 201):
        await room.announce(number)
        await anyio.sleep(0.001)
    await anyio.sleep(0.1)
    assert len(ips(caller.answers[-1])) == 200
    assert len(caller.answers) < 15  # 200 ms, one each 20 ms


async def test_a_service_that_nobody_knows_exists_without_endpoints(room, group):
    caller = Caller(room)
    group.start_soon(caller.stream.run)
    for type_url in (LISTENER, ROUTE, CLUSTER, ENDPOINT):
        caller.ask(type_url, "hello")
    await anyio.sleep(0.1)
    assert sorted(caller.types()) == [
        *("Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration"),
    ]
    await room.announce(1)
    await anyio.sleep(0.1)
    assert ips(caller.answers[-1]) == ["10.0.0.1"]
    assert len(caller.answers) == 5


@pytest.mark.parametrize("version", ["", "1"])
async def test_while_the_registry_is_away_those_who_have_something_keep_it(room, group, version):
    room.store.go_down()
    caller = Caller(room)
    group.start_soon(caller.stream.run)
    caller.ask(ENDPOINT, "hello", version=version)
    await anyio.sleep(4)
    assert caller.answers == []
    await anyio.sleep(20)
    assert [ips(answer) for answer in caller.answers] == ([] if version else [[]])
    await room.announce(1)
    room.store.come_back()
    await anyio.sleep(3)
    assert ips(caller.answers[-1]) == ["10.0.0.1"]


async def test_the_last_that_was_known_stays_when_the_registry_goes(room, group):
    await room.announce(1)
    for _ in range(2):  # nobody asks in between
        caller = Caller(room)
        group.start_soon(caller.stream.run)
        caller.ask(ENDPOINT, "hello")
        await anyio.sleep(0.1)
        assert ips(caller.answers[-1]) == ["10.0.0.1"]
        caller.hang_up()
        room.store.go_down()
        await anyio.sleep(60)


async def test_what_nobody_asks_for_is_forgotten(room, group):
    await room.announce(1)
    caller = Caller(room)
    group.start_soon(caller.stream.run)
    caller.ask(ENDPOINT, "hello", "ghost")
    await anyio.sleep(1)
    assert set(room.registry.status().watches) == {"hello", "ghost"}
    caller.hang_up()
    await anyio.sleep(1)
    assert set(room.registry.status().watches) == {"hello"}
    await anyio.sleep(700)
    assert set(room.registry.status().watches) == set()
    again = Caller(room)
    group.start_soon(again.stream.run)
    again.ask(ENDPOINT, "hello")
    await anyio.sleep(1)
    assert ips(again.answers[-1]) == ["10.0.0.1"]


async def test_an_envoy_is_told_of_all_services_as_they_come(room, group):
    caller = Caller(room, envoy(Port(address="0.0.0.0:80")), delta=True)
    group.start_soon(caller.stream.run)
    for type_url in (CLUSTER, LISTENER):
        caller.ask(type_url)
    await anyio.sleep(0.1)
    assert [len(answer.resources) for answer in caller.answers] == [0, 1]
    await room.announce(1)
    await room.announce(2, service="other")
    await anyio.sleep(0.1)
    named = {each.name for answer in caller.answers[2:] for each in answer.resources}
    assert named == {"hello", "other"}


async def test_an_envoy_may_be_for_some_services_only(room, group):
    await room.announce(1)
    await room.announce(2, service="other")
    caller = Caller(room, envoy(services=("other", "third")))
    group.start_soon(caller.stream.run)
    caller.ask(CLUSTER)
    caller.ask(ROUTE, "/")
    await anyio.sleep(0.1)
    [clusters] = caller.answers
    assert len(clusters.resources) == 2
    caller.acknowledge()
    caller.ask(ENDPOINT, "other", "third")
    await anyio.sleep(0.1)
    routes = RouteConfiguration.FromString(caller.answers[-1].resources[0].value)
    assert [host.name for host in routes.virtual_hosts] == ["other", "third", "*"]


async def test_a_subset_stays_until_the_routes_that_named_it_are_gone(room, group):
    await room.announce(1, version="v1")
    config = {"routes": [{"destinations": [{"version": "v1"}]}]}
    await room.registry.configs.publish("hello", config)
    caller = Caller(room, envoy(), delta=True)
    group.start_soon(caller.stream.run)
    caller.ask(CLUSTER)
    await anyio.sleep(0.1)
    named = {each.name for answer in caller.answers for each in answer.resources}
    assert named == {"hello", "hello|version=v1"}
    await room.registry.configs.withdraw("hello")
    await anyio.sleep(5)
    assert not any(answer.removed_resources for answer in caller.answers)
    await anyio.sleep(10)
    assert list(caller.answers[-1].removed_resources) == ["hello|version=v1"]


async def test_names_of_hosts_are_looked_up_again(room, group):
    await room.write_endpoints(Endpoint(service="hello", id="e", address="db:1"))
    caller = Caller(room)
    group.start_soon(caller.stream.run)
    caller.ask(ENDPOINT, "hello")
    await anyio.sleep(0.1)
    assert ips(caller.answers[-1]) == []
    for ip in ("10.0.0.7", "10.0.0.8"):
        room.names["db"] = ip
        await anyio.sleep(40)
        assert ips(caller.answers[-1]) == [ip]
    room.names.clear()
    await anyio.sleep(100)  # what was found stays
    assert ips(caller.answers[-1]) == ["10.0.0.8"]
    assert room.events.of(HostUnknown) == [HostUnknown("db", "no such host")]


async def test_a_refusal_is_told_of_once_and_nothing_is_sent_again(room, group):
    caller = Caller(room)
    group.start_soon(caller.stream.run)
    caller.ask(CLUSTER, "hello")
    await anyio.sleep(0.1)
    caller.acknowledge("hello", error="bad cluster")
    await anyio.sleep(60)
    assert len(caller.answers) == 1
    refusals = room.events.of(XdsResourcesRefused)
    assert refusals == [XdsResourcesRefused("n", "gRPC test", CLUSTER, ("hello",), "bad cluster")]


async def test_metadata_that_cannot_be_read_is_told_of(room, group):
    node = ParseDict({"user_agent_name": "envoy", "metadata": {"meshkit": {"ports": 1}}}, Node())
    caller = Caller(room, node)
    group.start_soon(caller.stream.run)
    caller.ask(LISTENER)
    await anyio.sleep(0.1)
    [refused] = room.events.of(XdsResourcesRefused)
    assert "ports must be a list" in refused.reason
    assert [len(answer.resources) for answer in caller.answers] == [0]


async def test_names_that_cannot_be_and_too_many_get_no_answer(room, group):
    caller = Caller(room, delta=True)
    group.start_soon(caller.stream.run)
    caller.ask(ENDPOINT, "a/b", "hello")
    await anyio.sleep(0.1)
    caller.ask(ENDPOINT, *(f"n{number:04}" for number in range(1100)))
    await anyio.sleep(1)
    first, second = room.events.of(XdsNamesRefused)
    assert (first.names, first.reason) == (("a/b",), "no names of services")
    assert second.reason == "more than 1000"
    assert len(room.registry.status().watches) == 1000


async def test_streams_come_and_go(room, group):
    caller = Caller(room)
    group.start_soon(caller.stream.run)
    caller.ask(ENDPOINT, "hello")
    await anyio.sleep(0.1)
    caller.hang_up()
    await anyio.sleep(0.1)
    peer = "ipv4:10.1.1.1:1"
    assert room.events.of(XdsClientConnected, XdsClientLeft) == [
        XdsClientConnected("n", "gRPC test", peer),
        XdsClientLeft("n", "gRPC test", peer),
    ]


async def test_a_stream_that_says_nothing_leaves_nothing(room, group):
    caller = Caller(room)
    group.start_soon(caller.stream.run)
    await anyio.sleep(0.1)
    caller.hang_up()
    await anyio.sleep(0.1)
    assert room.events.of(XdsClientConnected, XdsClientLeft) == []
