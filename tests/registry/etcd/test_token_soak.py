import pytest

from tests.registry.etcd.token_soak import soak

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


async def test_tokens_that_die_often_leave_no_gap_and_are_asked_for_once() -> None:
    ttl = 2
    report = await soak(7.5, every=2.5, ttl=ttl)
    print(report)
    assert len(report.restarts) >= 2
    assert all("10.0.0.1:50051" in view for view in report.views), "never missing"
    assert max(report.followed) < 5.0
    assert report.needless(ttl) == 0
