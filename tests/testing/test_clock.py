from __future__ import annotations

import pytest

from meshkit.testing import FakeClock, memory_registry

pytestmark = pytest.mark.anyio


def test_time_passes_by_hand_only_and_never_back() -> None:
    clock = FakeClock(10.0)
    clock.advance(2.5)
    assert clock() == clock() == 12.5
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1.0)
    assert clock() == 12.5


async def test_leases_of_a_registry_end_by_it() -> None:
    clock = FakeClock()
    registry = memory_registry("fake clock", clock=clock)
    lease = (await registry.grant(15.0)).lease
    await registry.put({"a": b"x"}, lease=lease)
    clock.advance(14.0)
    registry.tick()
    assert list(registry.entries()) == ["a"]
    clock.advance(1.0)
    assert not registry.entries()
