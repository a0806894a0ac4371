import asyncio
import contextlib

import anyio
import pytest

from meshkit.latest import Latest

pytestmark = pytest.mark.anyio


async def test_changed_returns_with_the_next_set():
    latest = Latest(0)
    async with anyio.create_task_group() as group:
        group.start_soon(latest.changed)
        group.start_soon(latest.changed)
        await anyio.wait_all_tasks_blocked()
        latest.set(1)
    assert latest.value == 1


async def test_what_was_set_before_does_not_count():
    latest = Latest(0)
    latest.set(1)
    with anyio.move_on_after(0.01) as scope:
        await latest.changed()
    assert scope.cancelled_caught


async def test_the_same_value_wakes_its_readers_too():
    latest = Latest(0)
    async with anyio.create_task_group() as group:
        group.start_soon(latest.changed)
        await anyio.wait_all_tasks_blocked()
        latest.set(latest.value)


async def test_a_slow_reader_gets_the_newest_only():
    latest = Latest(0)
    async with contextlib.aclosing(latest.values()) as values:
        assert await anext(values) == 0
        for number in range(1, 101):
            latest.set(number)
        assert await anext(values) == 100
        reading = asyncio.create_task(anext(values))
        await anyio.wait_all_tasks_blocked()
        assert not reading.done()
        latest.set(101)
        assert await reading == 101


async def test_a_value_that_changes_while_it_is_read_is_not_missed():
    latest = Latest(0)
    seen = []
    async for value in latest.values():
        seen.append(value)
        if value == 3:
            break
        latest.set(value + 1)
        await asyncio.sleep(0)
    assert seen == [0, 1, 2, 3]


def test_it_is_made_where_no_loop_runs_and_read_in_one():
    latest = Latest("early")

    async def read():
        return await anext(latest.values())

    assert asyncio.run(read()) == asyncio.run(read()) == "early"
