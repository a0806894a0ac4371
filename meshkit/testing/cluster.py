"""Several real etcds that are one cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from meshkit.testing.etcd import TAKEN, EtcdProcess, free_ports

__all__ = ["etcd_cluster"]


@contextmanager
def etcd_cluster(size: int = 3, *, flags: Sequence[str] = ()) -> Iterator[list[EtcdProcess]]:
    """A running cluster of `size` members, as a block; ports that were taken are exchanged first.

    Raises:
        RuntimeError: a member did not start.
    """
    with ExitStack() as stack:
        for again in (True, True, False):
            try:
                members = _start(size, flags, stack)
                break
            except RuntimeError as error:
                stack.close()
                if not (again and TAKEN in str(error)):
                    raise
        yield members


def _start(size: int, flags: Sequence[str], stack: ExitStack) -> list[EtcdProcess]:
    peers = [f"m{i}=http://127.0.0.1:{port}" for i, port in enumerate(free_ports(size))]
    members = [EtcdProcess(name=f"m{i}", peers=peers, flags=flags) for i in range(size)]
    for member in members:
        stack.callback(member.stop)
        member.launch()
    for member in members:
        member.wait_ready()
    return members
