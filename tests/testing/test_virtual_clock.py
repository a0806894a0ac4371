import asyncio
import time

import pytest

from meshkit.testing.virtual_clock import VirtualClockLoop


def run(main) -> float:
    """The virtual seconds that `main()` took."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(main())
        return runner.get_loop().time()


def test_an_hour_passes_at_once():
    began = time.monotonic()
    assert run(lambda: asyncio.sleep(3600)) == pytest.approx(3600)
    assert time.monotonic() - began < 5


def test_timers_fire_in_order():
    order = []

    async def note(delay: float) -> None:
        await asyncio.sleep(delay)
        order.append(delay)

    async def main() -> None:
        await asyncio.gather(note(3.0), note(1.0), note(2.0))

    assert run(main) == pytest.approx(3.0)
    assert order == [1.0, 2.0, 3.0]


def test_a_deadlock_is_an_error():
    loop = VirtualClockLoop()
    waiting = loop.create_task(asyncio.Event().wait())
    with pytest.raises(RuntimeError, match="deadlock"):
        loop.run_until_complete(waiting)
    waiting.cancel()
    loop.run_until_complete(asyncio.wait([waiting]))
    loop.close()
