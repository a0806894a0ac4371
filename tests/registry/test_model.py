"""Random faults against servers, clients and a registry in virtual time; see `model_world`."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.registry import planted
from tests.registry.model_world import LINK_FAULTS, STORE_FAULTS, TTL, Client, Server, World

TIMES = st.sampled_from([0.05, 0.3, 1.0, TTL / 3 + 1.05, TTL + 0.5, 25.0])
OTHERS = b'{"Addr": "10.0.0.66:1"}'  # an endpoint of somebody else
numbers = st.integers(0, 7)


class RegistryMachine(RuleBasedStateMachine):
    """Whatever happens, in whatever order: the sentences of `model_world` hold."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.backup: Any = None

    def server(self, number: int) -> Server:
        return self.world.servers[number % len(self.world.servers)]

    @initialize(servers=st.integers(1, 3))
    def begin(self, servers: int) -> None:
        self.world.clients.append(Client(self.world, 100))
        for number in range(servers):
            self.start_server(number)

    @rule(seconds=TIMES)
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule()
    def all_is_quiet(self) -> None:
        self.world.calm_down()

    # -- servers and clients

    @precondition(lambda self: len(self.world.servers) < 3)
    @rule(number=numbers)
    def start_server(self, number: int) -> None:
        server = Server(self.world, number)
        self.world.servers.append(server)
        self.world.hurt(server)
        server.register(self.world.new_name())

    @precondition(lambda self: self.world.servers)
    @rule(number=numbers)
    def register_one_more(self, number: int) -> None:
        server = self.server(number)
        if len(server.registrations) < 2:
            self.world.hurt(server)
            server.register(self.world.new_name())

    @precondition(lambda self: self.world.servers)
    @rule(number=numbers, which=numbers)
    def withdraw(self, number: int, which: int) -> None:
        if (server := self.server(number)).registrations:
            server.withdraw(which)

    @precondition(lambda self: self.world.servers)
    @rule(number=numbers)
    def kill(self, number: int) -> None:
        self.world.kill(self.server(number))

    @precondition(lambda self: len(self.world.clients) < 2)
    @rule()
    def start_client(self) -> None:
        self.world.clients.append(Client(self.world, 101))
        self.world.hurt(*self.world.servers)

    # -- the network and the store

    @precondition(lambda self: self.world.servers)
    @rule(number=numbers, fault=st.sampled_from(sorted(LINK_FAULTS)))
    def a_link_breaks(self, number: int, fault: str) -> None:
        self.world.cut_link(self.server(number), LINK_FAULTS[fault])

    @precondition(lambda self: self.world.servers)
    @rule(number=numbers)
    def a_link_is_mended(self, number: int) -> None:
        self.server(number).link.faults.clear()

    @rule(fault=st.sampled_from(sorted(STORE_FAULTS)))
    def the_store_fails(self, fault: str) -> None:
        self.world.is_down = True
        STORE_FAULTS[fault](self.world.store)

    @rule()
    def the_store_is_healed(self) -> None:
        self.world.heal()

    @rule()
    def wipe(self) -> None:
        self.world.store.wipe()
        self.world.hurt(*self.world.servers)

    @rule()
    def compact(self) -> None:
        self.world.store.compact()

    @rule()
    def make_a_backup(self) -> None:
        self.backup = self.world.store.backup()

    @precondition(lambda self: self.backup is not None)
    @rule()
    def restore_it(self) -> None:
        self.world.store.restore(self.backup)
        self.world.tidy()
        self.world.hurt(*self.world.servers)

    @precondition(lambda self: self.world.servers)
    @rule(number=numbers)
    def revoke_a_lease(self, number: int) -> None:
        server = self.server(number)
        for name in server.registrations:
            if entry := self.world.store.entries().get(self.world.key(name)):
                self.world.store.end_lease(entry.lease)
        self.world.hurt(server)

    @precondition(lambda self: self.world.servers)
    @rule(number=numbers)
    def delete_a_key_by_hand(self, number: int) -> None:
        server = self.server(number)
        self.world.store.erase(*map(self.world.key, server.registrations))
        self.world.hurt(server)

    @precondition(lambda self: self.world.servers)
    @rule(number=numbers, value=st.sampled_from([b"garbage", OTHERS]))
    def overwrite_a_key_by_hand(self, number: int, value: bytes) -> None:
        server = self.server(number)
        for name in server.registrations:
            self.world.store.overwrite(self.world.key(name), value)
        self.world.hurt(server)

    def teardown(self) -> None:
        try:
            self.world.calm_down()
        finally:
            self.world.close()


SETTINGS = settings(
    max_examples=40,
    stateful_step_count=20,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)

TestModel = RegistryMachine.TestCase
TestModel.settings = SETTINGS


# -- the model itself: it finds bugs


@pytest.mark.parametrize(
    "plant",
    [planted.the_first_change_after_a_list_is_lost, planted.a_lease_that_is_gone_is_renewed],
)
def test_chance_finds_a_planted_bug(plant: planted.Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    search = settings(
        SETTINGS, max_examples=100, phases=[Phase.generate], database=None, derandomize=True
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(RegistryMachine, settings=search)


M = RegistryMachine
Script = list[partial[None]]
SCRIPTS: dict[planted.Plant, Script] = {
    planted.the_first_change_after_a_list_is_lost: [],
    planted.a_list_is_believed: [partial(M.wipe)],
    planted.the_last_deletion_is_believed: [
        partial(M.the_store_fails, fault="pause"),
        partial(M.time_passes, seconds=TTL + 0.5),
        partial(M.the_store_is_healed),
    ],
    planted.an_outage_counts_for_what_is_held: [
        partial(M.revoke_a_lease, number=0),
        partial(M.time_passes, seconds=0.05),
        partial(M.the_store_fails, fault="cut"),
        partial(M.time_passes, seconds=25.0),
    ],
    planted.nothing_is_written_again_after_a_wipe: [partial(M.wipe)],
    planted.a_lease_that_is_gone_is_renewed: [partial(M.revoke_a_lease, number=0)],
    planted.own_keys_are_not_read: [partial(M.delete_a_key_by_hand, number=0)],
    planted.keys_that_were_deleted_are_forgotten: [
        partial(M.register_one_more, number=0),
        partial(M.time_passes, seconds=1.0),
        partial(M.make_a_backup),
        partial(M.withdraw, number=0, which=1),
        partial(M.time_passes, seconds=1.0),
        partial(M.restore_it),
    ],
    planted.a_write_without_an_answer_did_not_happen: [
        partial(M.a_link_breaks, number=0, fault="answers are lost"),
        partial(M.register_one_more, number=0),
        partial(M.time_passes, seconds=1.0 + 0.3),
        partial(M.withdraw, number=0, which=1),
    ],
}


def play(script: Script) -> None:
    machine = RegistryMachine()
    try:
        machine.begin(1)
        machine.all_is_quiet()
        for step in script:
            step(machine)
        machine.world.calm_down()
    finally:
        machine.world.close()


@pytest.mark.parametrize("plant", SCRIPTS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_fails_where_the_library_does_not(
    plant: planted.Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(SCRIPTS[plant])
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        play(SCRIPTS[plant])
