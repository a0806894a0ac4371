"""Signals, in programs of their own."""

import asyncio
import contextlib
import os
import signal
import sys

import anyio
import grpc
import pytest

from meshkit.server.signals import Signals
from tests.server.ring_pb2_grpc import RingStub

pytestmark = pytest.mark.anyio

DRAINED = ["server.draining", "withdraw", "server.drained"]


class Program:
    """A running `tests.server.program` and the lines it has printed."""

    def __init__(self, process):
        self._process = process
        self.lines = []

    async def until(self, start):
        """The line that starts so; not yet read lines are read up to it."""
        while True:
            line = (await self._process.stdout.readline()).decode().strip()
            assert line, f"the program ended before {start!r}: {self.lines}"
            self.lines.append(line)
            if line.startswith(start):
                return line

    def send(self, number):
        os.kill(self._process.pid, number)

    async def ended(self):
        """Its exit code, and what it wrote to stderr."""
        self.lines += (await self._process.stdout.read()).decode().split("\n")[:-1]
        errors = (await self._process.stderr.read()).decode()
        return await self._process.wait(), errors


@contextlib.asynccontextmanager
async def start(mode):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "tests.server.program", mode),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    program = Program(process)
    try:
        with anyio.fail_after(50):  # a busy machine takes long to start a program
            yield program
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()


@contextlib.asynccontextmanager
async def run(mode):
    async with start(mode) as program:
        address = (await program.until("at ")).removeprefix("at ")
        async with grpc.aio.insecure_channel(address) as channel:
            yield program, RingStub(channel)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_until_it_is_entered_a_signal_does_what_it_does_without_us(number):
    async with start("hung") as program:
        await program.until("register")
        program.send(number)
        assert (await program.ended())[0] == -number


@pytest.mark.parametrize("mode", ["plain", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_drains_and_the_program_ends_well(mode, number):
    async with run(mode) as (program, stub):
        call = stub.One(b"1.0")
        await program.until("called")
        program.send(number)
        await program.until("withdraw")
        assert await stub.One(b"0") == b"0"  # not stopped yet
        assert await call == b"1.0"
        assert await program.ended() == (0, "")
    assert [line for line in program.lines if line in DRAINED] == DRAINED
    assert program.lines[-1] == "end"


async def test_handlers_are_as_they_were_afterwards():
    async with run("plain") as (program, _):
        program.send(signal.SIGTERM)
        await program.ended()
    owners = {line.split()[0]: line.split()[1:] for line in program.lines if " " in line}
    assert owners["before"] == ["Handlers", "partial"]  # the default, and asyncio.run's
    assert owners["during"] == ["Signals._deliver", "Signals._deliver"]
    assert owners["after"] == owners["before"]


async def test_a_second_signal_stops_at_once():
    async with run("slow") as (program, stub):
        call = stub.One(b"30")
        await program.until("called")
        program.send(signal.SIGTERM)
        await program.until("withdraw")
        await anyio.sleep(0.6)  # what comes sooner is taken for an echo
        program.send(signal.SIGTERM)
        with anyio.fail_after(15):  # the grace is 30
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
            assert (await program.ended())[0] == 0
    assert "server.streams_cut" in program.lines


async def test_an_echo_of_the_first_signal_cuts_nothing():
    async with run("plain") as (program, stub):
        call = stub.One(b"1.0")
        await program.until("called")
        program.send(signal.SIGINT)
        await program.until("asked")
        program.send(signal.SIGINT)  # uv run and npm send what the terminal has sent already
        assert await call == b"1.0"
        assert await program.ended() == (0, "")


@pytest.mark.parametrize("mode", ["hosted", "thread"])
async def test_where_they_are_not_free_they_are_not_taken(mode):
    async with run(mode) as (program, stub):
        assert await stub.One(b"0") == b"0"
        program.send(signal.SIGTERM)
        assert await program.ended() == (0, "")
    before, during, after = (
        line.split()[1:]
        for line in program.lines
        if line.split()[0] in ("before", "during", "after")
    )
    assert before == during == after
    assert "Signals._deliver" not in during
    assert [line for line in program.lines if line in DRAINED] == DRAINED


async def test_a_handler_that_somebody_set_meanwhile_stays():
    signals = Signals(lambda: None)
    before = signal.getsignal(signal.SIGTERM)

    def theirs(number, frame):
        pass

    try:
        signals.take()
        signal.signal(signal.SIGTERM, theirs)
        signals.give_back()
        assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_taken_twice_is_given_back_once():
    before = signal.getsignal(signal.SIGTERM)
    signals = Signals(lambda: None)
    signals.take()
    signals.take()
    signals.give_back()
    signals.give_back()
    assert signal.getsignal(signal.SIGTERM) == before
