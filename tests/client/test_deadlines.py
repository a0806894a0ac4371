"""Calls that are made while another call is served get no more time than it has."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from meshkit.client import ChannelOptions
from meshkit.deadline import no_deadline, serve_until
from tests.client.fakes import (
    SHAPES,
    EchoServer,
    begin,
    error_of,
    open_channel,
    pending,
    result,
    serving,
)

pytestmark = pytest.mark.anyio
Status = grpc.StatusCode


@pytest.fixture(autouse=True)
async def no_call_is_served():
    yield
    serve_until("/a/B", None)  # tests may share a context


@pytest.fixture
async def channel():
    async with serving("a") as servers, open_channel(*servers) as (opened, _):
        yield opened


@pytest.fixture
async def server():
    async with EchoServer("a") as running:
        yield running


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_call_inherits_the_time_that_remains(channel, shape):
    serve_until("/a/B", 0.1)
    call = begin(channel, shape, b"sleep:30")
    assert 0 < call.time_remaining() <= 0.1
    assert (await error_of(call)).code() is Status.DEADLINE_EXCEEDED


@pytest.mark.parametrize(("own", "expected"), [(1.0, 1.0), (60.0, 5.0)])
async def test_the_nearer_deadline_holds(channel, own, expected):
    serve_until("/a/B", 5.0)
    call = begin(channel, "unary_unary", b"x", timeout=own)
    assert expected - 0.5 < call.time_remaining() <= expected
    await result(call)


async def test_nothing_is_inherited_from_a_call_without_deadline(channel):
    serve_until("/a/B", None)
    call = begin(channel, "unary_unary", b"x")
    assert call.time_remaining() is None
    await result(call)


@pytest.mark.parametrize("shape", SHAPES)
async def test_when_it_has_passed_nothing_is_sent(server, shape):
    async with open_channel(server) as (channel, _):
        serve_until("/a/B", -0.25)
        call = begin(channel, shape, b"x", timeout=60.0)
        assert call.done()
        error = await error_of(call)
        assert error.code() is Status.DEADLINE_EXCEEDED
        assert "/a/B, which is being served here, had a deadline" in error.details()
        assert pending(channel) == 0
        assert server.seen == []


async def test_it_also_bounds_the_wait_for_an_endpoint():
    async with open_channel() as (channel, _):
        serve_until("/a/B", 0.05)
        error = await error_of(begin(channel, "unary_unary", b"x"))
        assert error.code() is Status.DEADLINE_EXCEEDED
        assert "while waiting" in error.details()


async def test_tasks_inherit_it_and_a_block_does_not(channel):
    async def one():
        call = begin(channel, "unary_unary", b"x")
        await result(call)
        return call.time_remaining()

    serve_until("/a/B", 60.0)
    assert await asyncio.create_task(one()) is not None
    with no_deadline():
        assert await one() is None


async def test_a_channel_may_not_take_part():
    options = ChannelOptions(propagate_deadline=False)
    async with serving("a") as servers, open_channel(*servers, options=options) as (channel, _):
        serve_until("/a/B", -1.0)
        call = begin(channel, "unary_unary", b"x")
        assert call.time_remaining() is None
        await result(call)
