"""Timeouts and `waitForReady` of a method, as the service config says them."""

from __future__ import annotations

import anyio
import grpc
import pytest

from meshkit.client import ChannelOptions
from meshkit.service_config import ServiceConfig
from tests.client.fakes import SHAPES, begin, error_of, open_channel, result, serving, until
from tests.client.scripted import with_method

pytestmark = pytest.mark.anyio
Status = grpc.StatusCode


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_call_without_a_deadline_gets_that_of_its_method(shape):
    how = ChannelOptions(service_config=with_method(timeout="0.1s"))
    async with serving("a") as (a,), open_channel(a, options=how) as (channel, _):
        with anyio.fail_after(10):
            error = await error_of(begin(channel, shape, b"sleep:30"))
        assert error.code() is Status.DEADLINE_EXCEEDED


@pytest.mark.parametrize(("given", "left"), [(None, 20), (5, 5), (100, 20), (-1, 0)])
async def test_the_shorter_of_two_deadlines_holds(given, left):
    how = ChannelOptions(service_config=with_method(timeout="20s"))
    async with serving("a") as (a,), open_channel(a, options=how) as (channel, _):
        call = begin(channel, "unary_unary", b"x", timeout=given)
        assert left - 1 <= call.time_remaining() <= left


async def test_a_method_may_wait_for_ready():
    waits = ChannelOptions(service_config=with_method(waitForReady=True))
    async with open_channel(options=waits) as (channel, resolver):
        resolver.say()
        await until(lambda: channel.endpoints() is not None)
        call = begin(channel, "unary_unary", b"x", timeout=10)
        refused = begin(channel, "unary_unary", b"x", wait_for_ready=False)
        assert (await error_of(refused)).code() is Status.UNAVAILABLE
        async with serving("a") as (a,):
            resolver.say(a)
            assert await call == b"x@a"


async def test_calls_without_a_deadline_are_counted():
    config = ServiceConfig.parse(
        '{"methodConfig":[{"name":[{"service":"test.Echo","method":"UnaryStream"}],'
        '"timeout":"20s"}]}'
    )
    how = ChannelOptions(service_config=config)
    async with serving("a") as (a,), open_channel(a, options=how) as (channel, _):
        for shape in SHAPES:
            await result(begin(channel, shape, b"x"))
            await result(begin(channel, shape, b"x", timeout=10))
        assert channel.status().unbounded == 3
