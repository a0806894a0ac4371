"""Who answers at an address: what servers say, and what clients make of it."""

from __future__ import annotations

import pytest

from meshkit.endpoint import Endpoint
from meshkit.identity import introduce, stranger

ADDRESS = "[::1]:50051"


def endpoint(service: str = "hello", endpoint_id: str = "7f3a") -> Endpoint:
    return Endpoint(service=service, id=endpoint_id, address=ADDRESS)


def test_what_a_server_says():
    said = introduce([endpoint(), endpoint("grüße", ADDRESS)])
    assert said == (
        ("meshkit-endpoint", "hello/7f3a"),
        ("meshkit-endpoint", "gr%C3%BC%C3%9Fe/[::1]:50051"),  # metadata is ASCII
    )


@pytest.mark.parametrize(
    "said",
    [
        (),
        (("date", "today"), ("blob-bin", b"\xff")),
        introduce([endpoint()]),
        introduce([endpoint("other", "0000"), endpoint()]),
    ],
)
def test_the_right_one_and_who_does_not_say(said):
    assert stranger(endpoint(), said) == ""


@pytest.mark.parametrize(
    ("there", "now"),
    [
        ([endpoint(endpoint_id="0000")], "hello/0000"),
        ([endpoint("other")], "other/7f3a"),
        ([endpoint("grüße", "1"), endpoint("echo", "1")], "grüße/1, echo/1"),
    ],
)
def test_a_stranger(there, now):
    wanted = f"the endpoint at {ADDRESS} is now {now}, not hello/7f3a"
    assert stranger(endpoint(), introduce(there)) == wanted


def test_where_the_id_is_the_address_the_service_decides():
    known = endpoint(endpoint_id=ADDRESS)
    assert stranger(known, introduce([endpoint("other"), endpoint()])) == ""
    for other in ("other", "hello2", "hell"):
        assert f"is now {other}/7f3a" in stranger(known, introduce([endpoint(other)]))
