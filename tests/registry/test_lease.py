from meshkit.registry.lease import Lease


def test_both_clocks_count_from_the_request():
    lease = Lease.granted(7, 15.0, asked_at=100.0)
    assert (lease.id, lease.renew_at, lease.expires_at) == (7, 105.0, 115.0)


def test_a_renewal_moves_both_clocks_and_keeps_the_birth():
    lease = Lease.granted(7, 15.0, asked_at=100.0).renewed(30.0, asked_at=106.0)
    assert (lease.id, lease.renew_at, lease.expires_at) == (7, 116.0, 136.0)
    assert lease.granted_at == 100.0
