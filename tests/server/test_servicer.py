import grpc
import pytest

from meshkit.errors import ConfigError
from meshkit.server.servicer import add_services, adders_of
from tests.server import bell_pb2_grpc, ring_pb2_grpc


class Table:
    """A server that only takes notes."""

    def __init__(self):
        self.generic = []
        self.registered = []

    def add_generic_rpc_handlers(self, handlers):
        self.generic.extend(handler.service_name() for handler in handlers)

    def add_registered_method_handlers(self, service, handlers):
        self.registered.append(service)


class Ring(ring_pb2_grpc.RingServicer):
    pass


class LoudRing(Ring):
    pass


class Tower(ring_pb2_grpc.RingServicer, bell_pb2_grpc.BellServicer):
    pass


class Plain:
    pass


@pytest.mark.parametrize(
    ("servicer", "protos"),
    [
        (Ring(), ("test.Ring",)),
        (LoudRing(), ("test.Ring",)),
        (Tower(), ("test.Ring", "test.Bell")),
    ],
)
def test_generated_functions_are_found_by_the_base_classes(servicer, protos):
    table = Table()
    assert add_services({"s": servicer}, table) == protos
    assert table.generic == list(protos)
    assert table.registered == ["test.Ring"]  # the older generated code knows nothing of it


def test_a_function_imported_twice_is_used_once(monkeypatch):
    monkeypatch.setattr(
        f"{__name__}.add_Ring_to_server",
        ring_pb2_grpc.add_RingServicer_to_server,
        raising=False,
    )
    assert len(adders_of(Ring())) == 1


def test_a_function_may_add_what_has_no_generated_class():
    def add(server):
        handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("by.Hand", {"One": handler})]
        )

    assert add_services({"s": add}, Table()) == ("by.Hand",)


def test_handlers_without_a_service_name_are_passed_on():
    class Any(grpc.GenericRpcHandler):
        def service(self, handler_call_details):
            return None

        def service_name(self):  # the table's wish; not a grpc.ServiceRpcHandler
            return "any"

    table = Table()
    assert add_services({"s": lambda server: server.add_generic_rpc_handlers([Any()])}, table) == ()
    assert table.generic == ["any"]


def test_an_object_of_no_service_is_refused_and_told_what_was_looked_for():
    with pytest.raises(ConfigError) as caught:
        adders_of(Plain())
    assert "Plain does not implement" in str(caught.value)
    assert f"{__name__}.add_Plain_to_server" in str(caught.value)


def test_an_object_without_a_class_of_its_own_is_refused_too():
    with pytest.raises(ConfigError) as caught:
        adders_of(object())
    assert str(caught.value).startswith(
        "object does not implement a generated gRPC service. Derive it from"
    )


def test_a_class_is_refused():
    with pytest.raises(ConfigError, match=r"serve an object of it: Ring\(\)"):
        adders_of(Ring)


def test_one_servicer_may_have_several_names():
    ring = Ring()
    table = Table()
    assert add_services({"a": ring, "b": ring}, table) == ("test.Ring",)
    assert table.generic == ["test.Ring"]


def test_two_servicers_of_one_proto_service_are_refused():
    with pytest.raises(ConfigError, match=r"'b' and 'a' both implement test\.Ring"):
        add_services({"a": Ring(), "b": LoudRing()}, Table())
