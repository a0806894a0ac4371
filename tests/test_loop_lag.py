"""A loop that is held up, in virtual time: whoever blocks it moves the clock and nothing else."""

import asyncio

import anyio
import pytest

from meshkit.events import LoopStalled
from meshkit.loop_lag import LoopLag, LoopLagMonitor
from meshkit.testing.virtual_clock import VirtualClockLoop

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualClockLoop}


@pytest.fixture
async def monitor():
    loop, heard = asyncio.get_running_loop(), []
    monitor = LoopLagMonitor(
        heard.append,
        renewal=2.0,
        announces=lambda: monitor.announces,
        clock=loop.time,
        wall=lambda: 1_000_000 + loop.time(),
    )
    monitor.heard, monitor.announces = heard, True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(monitor.run)
        await anyio.sleep(1)
        yield monitor
        tasks.cancel_scope.cancel()


def block(seconds):
    asyncio.get_running_loop().now += seconds


async def test_a_loop_that_runs_has_no_lag(monitor):
    await anyio.sleep(100)
    assert monitor.status() == LoopLag(last=0.0, worst=0.0)
    assert monitor.heard == []


async def test_the_last_lag_and_the_worst_of_a_minute(monitor):
    block(1.0)
    await anyio.sleep(0.01)
    assert monitor.status().last == pytest.approx(1.0, abs=0.25)
    block(0.5)
    await anyio.sleep(0.2)
    lag = monitor.status()
    assert lag.last < 0.51
    assert lag.worst == pytest.approx(1.0, abs=0.25)
    await anyio.sleep(58)
    assert monitor.status().worst == lag.worst
    await anyio.sleep(4)
    assert monitor.status() == LoopLag(last=0.0, worst=0.0)
    assert monitor.heard == [], "less than a renewal is no stall"


async def test_a_stall_is_told_once_with_its_time_and_what_it_cost(monitor):
    began = asyncio.get_running_loop().time()
    block(7.0)
    await anyio.sleep(60)
    [stall] = monitor.heard
    assert stall.stalled == pytest.approx(7.0, abs=0.25)
    assert stall.began == pytest.approx(1_000_000 + began, abs=0.25)
    assert stall.ended == pytest.approx(1_000_000 + began + 7.0, abs=0.01)
    assert stall.renewals_missed == 3


async def test_who_announces_nothing_misses_no_renewal(monitor):
    monitor.announces = False
    block(7.0)
    await anyio.sleep(1)
    assert [stall.renewals_missed for stall in monitor.heard] == [0]


async def test_with_a_short_ttl_it_looks_more_often():
    loop, heard = asyncio.get_running_loop(), []
    monitor = LoopLagMonitor(heard.append, renewal=0.2, announces=lambda: True, clock=loop.time)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(monitor.run)
        await anyio.sleep(1)
        block(0.3)
        await anyio.sleep(1)
        tasks.cancel_scope.cancel()
    [stall] = heard
    assert 0.25 <= stall.stalled <= 0.3


def test_the_line_has_times_of_day():
    assert LoopStalled(1.5, 0.0, 1.5, 2).details() == {
        "stalled": 1.5,
        "began": "1970-01-01T00:00:00.000+00:00",
        "ended": "1970-01-01T00:00:01.500+00:00",
        "renewals_missed": 2,
    }
