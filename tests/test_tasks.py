import asyncio
import contextlib

import anyio
import pytest

from meshkit.events import TaskCrashed
from meshkit.tasks import Supervisor

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def opened(**options):
    supervisor = Supervisor((events := []).append, **options)
    await supervisor.open()
    try:
        yield supervisor, events
    finally:
        await supervisor.aclose()


async def test_a_task_runs_and_ends():
    async with opened() as (supervisor, events):
        seen = []

        async def note(*what):
            seen.append(what)

        job = supervisor.start("note", note, 1, "two")
        await job.ended()
        assert seen == [(1, "two")]
        assert events == []


async def test_a_loop_that_crashes_is_started_again_and_the_others_live_on():
    async with opened() as (supervisor, events):
        came_again = anyio.Event()
        runs = []

        async def loop():
            runs.append(None)
            if len(runs) < 3:
                raise ValueError(f"crash {len(runs)}")
            came_again.set()
            await anyio.sleep_forever()

        other = supervisor.start("other", anyio.sleep_forever)
        job = supervisor.start("loop", loop, keep=True)
        with anyio.fail_after(5):
            await came_again.wait()
        assert [(event.task, str(event.error)) for event in events] == [
            ("loop", "crash 1"),
            ("loop", "crash 2"),
        ]
        assert not job._ended.is_set()
        assert not other._ended.is_set()


async def test_a_task_that_crashes_once_is_told_and_over():
    async with opened() as (supervisor, events):

        async def fail():
            raise ExceptionGroup("two", [ValueError("a"), OSError("b")])

        await supervisor.start("fail", fail).ended()
        assert [type(event) for event in events] == [TaskCrashed]
        assert isinstance(events[0].error, ExceptionGroup)


async def test_a_job_can_be_cancelled_before_it_began_and_while_it_waits_to_run_again():
    async with opened() as (supervisor, events):
        began = []

        async def begin():
            began.append(None)
            await anyio.sleep(0)
            began.append(None)

        job = supervisor.start("early", begin)
        job.cancel()
        await job.ended()
        assert len(began) < 2

        async def fail():
            raise ValueError

        again = supervisor.start("again", fail, keep=True)
        while not events:
            await asyncio.sleep(0)
        again.cancel()
        await again.ended()
        again.cancel()  # after its end, too
        assert len(events) == 1


async def test_opened_in_one_task_and_closed_in_another():
    before = asyncio.all_tasks()
    supervisor = Supervisor([].append)
    await asyncio.create_task(supervisor.open())
    job = supervisor.start("sleep", anyio.sleep_forever)
    await asyncio.create_task(supervisor.aclose())
    assert job._ended.is_set()
    assert asyncio.all_tasks() == before


async def test_opening_is_shared_and_outlives_a_cancelled_caller():
    supervisor = Supervisor([].append)
    first = asyncio.create_task(supervisor.open())
    second = asyncio.create_task(supervisor.open())
    await asyncio.sleep(0)
    first.cancel()
    await second
    await supervisor.start("nothing", anyio.sleep, 0).ended()
    await supervisor.aclose()


async def test_starting_needs_an_open_supervisor():
    supervisor = Supervisor([].append)
    await supervisor.aclose()  # nothing to close
    with pytest.raises(RuntimeError, match="not open"):
        supervisor.start("x", anyio.sleep_forever)
    await supervisor.open()
    await supervisor.aclose()
    await supervisor.aclose()
    with pytest.raises(RuntimeError, match="not open"):
        supervisor.start("x", anyio.sleep_forever)


async def test_closing_waits_for_clean_ups_though_its_caller_is_cancelled():
    cleaned = []

    async def tidy():
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.02)
            cleaned.append(None)

    with anyio.CancelScope() as scope:
        async with opened() as (supervisor, _):
            supervisor.start("tidy", tidy)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    assert cleaned


async def test_closing_is_bounded_and_names_who_does_not_end():
    release = anyio.Event()

    async def deaf():
        with anyio.CancelScope(shield=True):
            await release.wait()

    supervisor = Supervisor((events := []).append, patience=0.05)
    await supervisor.open()
    job = supervisor.start("deaf", deaf)
    supervisor.start("good", anyio.sleep_forever)
    await anyio.wait_all_tasks_blocked()
    with anyio.fail_after(2):
        await supervisor.aclose()
    assert [str(event.error) for event in events] == [
        "not ended 0.05 s after it was cancelled: deaf"
    ]
    release.set()
    await job.ended()
