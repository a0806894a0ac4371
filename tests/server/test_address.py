import ipaddress
import socket

import pytest

from meshkit.errors import ConfigError
from meshkit.server import address
from meshkit.server.address import Address, find_place

pytestmark = pytest.mark.anyio

FAR = ("10.11.12.13", 2379)
NEAR = ("127.0.0.1", 2379)


@pytest.fixture
def routes(monkeypatch):
    """The routing table of a machine 10.0.0.5, as far as it is asked."""
    table = {
        FAR: [("10.0.0.5", FAR[0])],
        NEAR: [("127.0.0.1", "127.0.0.1")],
        ("10.0.0.5", 2379): [("10.0.0.5", "10.0.0.5")],
        ("192.0.2.1", 9): [("10.0.0.5", "192.0.2.1")],
    }

    async def look_up(peer):
        return table.get(peer, [])

    monkeypatch.setattr(address, "_routes", look_up)
    return table


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("web", "web", None),
        (" web:80 ", "web", 80),
        ("10.0.0.5:65535", "10.0.0.5", 65535),
        ("::1", "::1", None),
        ("[::1]", "::1", None),
        ("[fe80::2]:80", "fe80::2", 80),
    ],
)
async def test_addresses_are_read(text, host, port):
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "web:",
        "web:0",
        "web:65536",
        "web:http",
        "http://web:80",
        "[::1]80",
        "[::1",
        "web:²",
    ],
)
async def test_what_is_no_address_is_refused(text):
    with pytest.raises(ConfigError, match="write host"):
        Address.parse(text)


async def test_an_address_is_written_as_it_is_dialled():
    assert str(Address("::1").with_port(80)) == "[::1]:80"
    assert str(Address("web", 443).with_port(80)) == "web:443"
    assert str(Address("web")) == "web"


@pytest.mark.parametrize(
    ("peer", "options", "bind", "announced"),
    [
        (None, {}, "127.0.0.1", "127.0.0.1"),
        (NEAR, {}, "127.0.0.1", "127.0.0.1"),
        (FAR, {}, "0.0.0.0", "10.0.0.5"),
        (FAR, {"advertise": "web:443", "environment": "other"}, "0.0.0.0", "web:443"),
        (FAR, {"environment": "10.9.9.9"}, "0.0.0.0", "10.9.9.9"),
        (FAR, {"advertise": "fd00::7"}, "[::]", "[fd00::7]"),
        (FAR, {"host": "10.0.0.6"}, "10.0.0.6", "10.0.0.6"),
        (FAR, {"host": "0.0.0.0"}, "0.0.0.0", "10.0.0.5"),
        (FAR, {"host": "::"}, "[::]", "10.0.0.5"),
        (FAR, {"host": "127.0.0.1", "advertise": "10.0.0.5"}, "127.0.0.1", "10.0.0.5"),
        (NEAR, {"advertise": "10.0.0.5"}, "0.0.0.0", "10.0.0.5"),
        (None, {"advertise": "localhost"}, "127.0.0.1", "localhost"),
        (None, {"advertise": "::1"}, "[::1]", "[::1]"),
        (None, {"host": "0.0.0.0"}, "0.0.0.0", "127.0.0.1"),
        (None, {"advertise": "10.0.0.5", "allow_remote": True}, "0.0.0.0", "10.0.0.5"),
        (("10.0.0.5", 2379), {"advertise": "127.0.0.1"}, "127.0.0.1", "127.0.0.1"),
    ],
)
async def test_where_to_listen_and_what_to_announce(routes, peer, options, bind, announced):
    place = await find_place(peer, **options)
    assert (place.bind, str(place.advertise)) == (bind, announced)


async def test_a_registry_whose_name_is_not_known_yet_leaves_the_default_route(routes):
    place = await find_place(("etcd.not.up.yet", 2379))
    assert str(place.advertise) == "10.0.0.5"


async def test_without_any_route_the_user_is_asked(routes):
    routes.clear()
    with pytest.raises(ConfigError, match=r"no route to the registry at 10\.11\.12\.13:2379"):
        await find_place(FAR)


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::", "[::]:80", "*", "0.0.0.0:80"])
@pytest.mark.parametrize("peer", [None, NEAR, FAR])
@pytest.mark.parametrize("source", ["advertise", "environment"])
async def test_a_wildcard_is_never_announced(routes, wildcard, peer, source):
    with pytest.raises(ConfigError, match="no address others can dial"):
        await find_place(peer, allow_remote=True, **{source: wildcard})


@pytest.mark.parametrize("loopback", ["127.0.0.1", "127.8.8.8:80", "localhost", "::1"])
async def test_a_loopback_is_not_announced_to_other_machines(routes, loopback):
    with pytest.raises(ConfigError, match=r"registry is at 10\.11\.12\.13:2379"):
        await find_place(FAR, advertise=loopback)
    with pytest.raises(ConfigError, match="host is"):
        await find_place(FAR, host=loopback.removesuffix(":80"))


async def test_a_registry_of_this_machine_takes_loopbacks_only(routes):
    with pytest.raises(ConfigError, match=r"advertise is 10\.0\.0\.5, but the registry serves"):
        await find_place(None, advertise="10.0.0.5")


async def test_the_real_route_to_this_machine_ends_where_it_begins():
    assert ("127.0.0.1", "127.0.0.1") in await address._routes(("127.0.0.1", 9))
    assert await address._is_here(("localhost", 9))


async def test_a_name_that_does_not_resolve_has_no_route():
    assert await address._routes(("meshkit.invalid", 9)) == ()


async def test_a_family_without_a_route_is_passed_over(monkeypatch):
    class NoRoute(socket.socket):
        def connect(self, target):
            raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(address.socket, "socket", NoRoute)
    assert await address._routes(("127.0.0.1", 9)) == []


async def test_a_far_registry_gives_an_address_of_this_machine():
    place = await find_place(("192.0.2.77", 2379))
    assert ipaddress.ip_address(place.advertise.host).is_global or not place.advertise.is_loopback
