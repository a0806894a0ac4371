"""What is answered when, as the registry comes and goes; in virtual time."""

from __future__ import annotations

import anyio
import dns.rcode
import pytest

from meshkit.dns.answers import Answers, read_query
from meshkit.dns.authority import Authority
from meshkit.dns.zone import Zone
from meshkit.errors import RegistryAuthError
from meshkit.registry.outage import loop_time
from meshkit.testing import VirtualClockLoop
from tests.dns.asking import ORIGIN, question, told
from tests.registry.tasks.fakes import Bench

pytestmark = pytest.mark.anyio

ZONE = Zone(ORIGIN)


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualClockLoop}


def query(service="hello"):
    return read_query(question(f"_{service}._tcp.mesh.local"), ZONE)


def authority(bench: Bench, **limits) -> Authority:
    return Authority(bench.registry, Answers(ZONE, 1), patience=2.0, **limits)


async def answered(some: Authority, service="hello"):
    asked = query(service)
    return some.answer(asked) or await some.wait(asked)


async def codes(some: Authority, *services: str) -> list[str]:
    return [dns.rcode.to_text((await answered(some, name)).rcode()) for name in services]


async def test_the_first_answer_waits_for_the_registry_the_next_do_not(bench):
    await bench.write("a")
    some = authority(bench)
    assert some.answer(query()) is None
    assert told(await some.wait(query())) == {"SRV 0 25599 50051 a."}
    assert told(some.answer(query())) == {"SRV 0 25599 50051 a."}
    await bench.write("b")
    await anyio.sleep(0.1)
    assert len(told(some.answer(query()))) == 2
    some.close()


async def test_an_answer_is_held_until_the_registry_is_there(bench):
    await bench.write("a")
    bench.store.go_down()
    some = authority(bench)
    async with anyio.create_task_group() as group:

        async def come_back():
            await anyio.sleep(1.0)
            bench.store.come_back()

        group.start_soon(come_back)
        assert len(told(await some.wait(query()))) == 1
    assert 1.0 <= loop_time() <= 2.5
    some.close()


async def test_without_the_registry_nobody_hears_that_there_is_nothing(bench):
    bench.store.go_down()
    some = authority(bench)
    reply = await some.wait(query())
    assert loop_time() == pytest.approx(2.5, abs=0.1)
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert "connect refused" in str(reply.options[0])
    assert some.watched == ()  # the watch is let go of


async def test_a_silent_registry_is_not_waited_for_longer(bench):
    bench.store.faults["*"] = "hang"
    reply = await authority(bench).wait(query())
    assert "no answer yet" in str(reply.options[0])


async def test_the_last_known_is_answered_while_the_registry_is_down(bench):
    await bench.write("a")
    some = authority(bench)
    await some.wait(query())
    bench.store.go_down()
    await anyio.sleep(3600)
    assert len(told(some.answer(query()))) == 1
    some.close()


async def test_a_name_that_no_service_can_have_does_not_exist(bench):
    asked = read_query(question("a/b.mesh.local"), ZONE)
    reply = await authority(bench).wait(asked)
    assert reply.rcode() == dns.rcode.NXDOMAIN


async def test_who_was_not_asked_for_the_longest_is_let_go_of_empty_ones_first(bench):
    for service in ("one", "left", "two", "three", "four"):
        await bench.write("a", service=service)
    some = authority(bench, watched=3)
    assert await codes(some, "one", "left", "two") == ["NOERROR"] * 3
    await bench.erase("a", service="left")
    await anyio.sleep(60)
    assert await codes(some, "left") == ["NXDOMAIN"]
    await codes(some, "three")
    assert some.watched == ("one", "two", "three")
    await codes(some, "one", "four")
    assert some.watched == ("three", "one", "four")
    assert set(bench.registry.status().watches) == set(some.watched)
    some.close()
    assert bench.registry.status().watches == {}


async def test_a_service_with_capitals_is_found_however_it_is_written(bench):
    await bench.write("a", service="org.x.Greeter")
    some = authority(bench)
    for written in ("org.x.Greeter", "ORG.X.GREETER", "org.x.greeter"):
        assert told(await answered(some, written)) == {"SRV 0 25599 50051 a."}
    assert some.watched == ("org.x.greeter",)
    assert list(bench.registry.status().watches) == ["org.x.Greeter"]
    some.close()


async def test_of_two_that_differ_in_capitals_the_small_one_is_meant(bench):
    await bench.write("capital", service="Hello")
    await bench.write("small", service="hello")
    some = authority(bench)
    assert told(await answered(some, "Hello")) == {"SRV 0 25599 50051 small."}
    some.close()


async def test_names_that_do_not_exist_cost_the_registry_nothing(bench):
    await bench.write("a")
    some = authority(bench)
    await answered(some)
    before = len(bench.store.calls)
    names = [f"none{number}" for number in range(100)]
    assert set(await codes(some, *names)) == {"NXDOMAIN"}
    assert len(bench.store.calls) == before
    some.close()


async def test_who_may_not_list_all_services_is_told_of_each(bench):
    """As with rights in etcd for one service only."""
    await bench.write("a")
    listed = bench.store.inner.list

    async def narrow(prefix, **options):
        if prefix == "meshkit/default/":
            raise RegistryAuthError("permission denied")
        return await listed(prefix, **options)

    bench.store.inner.list = narrow
    some = authority(bench)
    assert told(await some.wait(query())) == {"SRV 0 25599 50051 a."}
    some.close()


async def test_two_who_wait_for_one_service_hold_it_once(bench):
    await bench.write("a")
    some = authority(bench)
    async with anyio.create_task_group() as group:
        group.start_soon(some.wait, query())
        group.start_soon(some.wait, query())
    assert some.watched == ("hello",)
    some.close()
    assert bench.registry.status().watches == {}


async def test_only_so_many_wait(bench):
    bench.store.faults["*"] = "hang"
    some = authority(bench, waiting=2)
    async with anyio.create_task_group() as group:
        group.start_soon(some.wait, query("one"))
        group.start_soon(some.wait, query("two"))
        await anyio.wait_all_tasks_blocked()
        reply = await some.wait(query("three"))
        assert "too many" in str(reply.options[0])
        assert loop_time() < 1.0
    assert dns.rcode.to_text((await some.wait(query("three"))).rcode()) == "SERVFAIL"
    assert loop_time() > 3.0  # there was room to wait again


async def test_a_registry_that_was_closed_fails_the_question_only(bench):
    await bench.registry.aclose()
    reply = await authority(bench).wait(query())
    assert "closed" in str(reply.options[0])
