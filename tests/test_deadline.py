"""The deadline of a context, without a server."""

from __future__ import annotations

import asyncio
import contextvars

from meshkit.deadline import no_deadline, overdue, serve_until, time_remaining


def alone(function):
    """A test in a context of its own."""

    def test():
        contextvars.copy_context().run(function)

    test.__name__ = function.__name__
    return test


@alone
def test_without_a_call_there_is_no_deadline():
    assert time_remaining() is None
    assert overdue() == "Deadline Exceeded"


@alone
def test_a_call_without_deadline_has_none_and_inherits_none():
    serve_until("/a/B", None)
    assert time_remaining() is None
    serve_until("/a/B", 5.0)
    serve_until("/a/C", None)
    assert time_remaining() is None


@alone
def test_it_runs_out():
    serve_until("/a/B", 5.0)
    assert 4.5 < time_remaining() <= 5.0
    serve_until("/a/B", -0.25)
    assert time_remaining() <= -0.25
    assert "/a/B, which is being served here, had a deadline, and it passed 0.2" in overdue()


@alone
def test_a_block_without_deadline():
    serve_until("/a/B", 5.0)
    with no_deadline():
        assert time_remaining() is None
        with no_deadline():
            pass
        assert time_remaining() is None
    assert time_remaining() is not None


async def left():
    return time_remaining()


@alone
def test_tasks_inherit_what_held_where_they_began():
    async def main():
        serve_until("/a/B", 5.0)
        inside = asyncio.create_task(left())
        with no_deadline():
            outside = asyncio.create_task(left())
        assert await inside is not None
        assert await outside is None
        assert await asyncio.to_thread(time_remaining) is not None

    asyncio.run(main())
