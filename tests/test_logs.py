"""Log lines: only where somebody asked for them, and then all of them."""

import json
import logging
import subprocess
import sys
from types import MappingProxyType

import pytest
import structlog
from structlog.testing import capture_logs

from meshkit import Endpoint, EndpointSet, Mesh
from meshkit.events import (
    ConfigResolved,
    EndpointRegistered,
    EndpointsChanged,
    LeaseUnconfirmed,
    RegistryDisconnected,
    StreamsCut,
    TaskCrashed,
)
from meshkit.observability.logs import log_event

ENDPOINT = Endpoint(service="s", id="i", address="h:1", metadata={"token": "planted"})
REGISTERED = EndpointRegistered(ENDPOINT, "memory://m", 255, again=False, outage=0.25)

TROUBLE = """
import asyncio, logging, sys
from meshkit import Mesh
{setup}

async def main():
    events = []
    async with Mesh("etcd://127.0.0.1:1?timeout=0.2", hooks=[events.append]) as mesh:
        async with mesh.channel("s", warm_up=0), mesh.channel("other", warm_up=0):
            while not any(event.level == "warning" for event in events):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)  # for more tries, which must not be told

asyncio.run(main())
"""


def run(setup=""):
    """What a program in trouble with its registry writes to stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TROUBLE.format(setup=setup)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout, done.stderr


def test_a_program_that_did_not_ask_sees_nothing():
    assert run() == ("", "")


def test_json_renderers_can_write_the_details():
    event = ConfigResolved("memory://m", "default", MappingProxyType({"registry": "keyword"}))
    assert json.loads(json.dumps(event.details()))["sources"] == {"registry": "keyword"}


def test_stdlib_logging_gets_one_warning_for_an_outage_and_stdout_nothing():
    stdout, stderr = run("logging.basicConfig(level='WARNING')")
    assert stdout == ""
    assert len(stderr.splitlines()) == 1
    assert stderr.startswith(
        "WARNING:meshkit:registry.disconnected registry=etcd://127.0.0.1:1 reason="
    )


def test_a_configured_structlog_gets_the_events():
    setup = """
import structlog
structlog.configure(
    processors=[structlog.stdlib.add_log_level, structlog.processors.JSONRenderer()],
    logger_factory=structlog.PrintLoggerFactory(sys.stderr),
)
"""
    stdout, stderr = run(setup)
    assert stdout == ""
    lines = [line for line in stderr.splitlines() if '"level": "warning"' in line]
    assert len(lines) == 1
    assert '"event": "registry.disconnected"' in lines[0]
    assert '"registry": "etcd://127.0.0.1:1"' in lines[0]


@pytest.fixture
def configured():
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("configured")
@pytest.mark.anyio
async def test_events_go_through_the_pipeline_of_the_application(caplog):
    caplog.set_level("DEBUG", "meshkit")
    with capture_logs() as lines:
        async with Mesh("memory://pipeline") as mesh, mesh.register("s", "127.0.0.1:1"):
            pass
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("config.resolved", "info"),
        ("endpoint.registered", "info"),
        ("endpoint.withdrawn", "info"),
    ]
    assert lines[1]["service"] == "s"
    assert lines[1]["address"] == "127.0.0.1:1"
    assert [record for record in caplog.records if record.name == "meshkit"] == []  # not twice


@pytest.mark.usefixtures("configured")
def test_errors_reach_structlog_with_their_traceback():
    error = ValueError("planted")
    with capture_logs() as lines:
        log_event(TaskCrashed("loop", error))
    assert lines == [
        {"event": "task.crashed", "log_level": "error", "task": "loop", "exc_info": error}
    ]


def test_a_line_of_the_stdlib_has_the_fields_as_extra(caplog):
    caplog.set_level("INFO", "meshkit")
    log_event(REGISTERED)
    [record] = caplog.records
    assert (record.name, record.levelname) == ("meshkit", "INFO")
    assert record.getMessage() == (
        "endpoint.registered service=s endpoint=i address=h:1 registry=memory://m lease=ff "
        "again=False outage=0.250"
    )
    assert record.meshkit == {
        "event": "endpoint.registered",
        "service": "s",
        "endpoint": "i",
        "address": "h:1",
        "registry": "memory://m",
        "lease": "ff",
        "again": False,
        "outage": 0.25,
    }
    assert "planted" not in str(vars(record))


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            RegistryDisconnected("etcd://h", "no answer 100%s"),
            "registry.disconnected registry=etcd://h reason='no answer 100%s'",
        ),
        (
            RegistryDisconnected("etcd://h", ""),
            "registry.disconnected registry=etcd://h reason=''",
        ),
        (
            LeaseUnconfirmed("etcd://h", 1, 1 / 3),
            "lease.unconfirmed registry=etcd://h lease=1 silent_for=0.333",
        ),
        (
            EndpointsChanged("s", 7, 1, EndpointSet.of("s", [ENDPOINT]).since(None)),
            "endpoints.changed service=s revision=7 total=1 added=[h:1] changed=[] removed=[]",
        ),
        (
            StreamsCut("h:1", 30, {"/s/M": 2}),
            "server.streams_cut address=h:1 grace=30 calls=\"{'/s/M': 2}\"",
        ),
    ],
)
def test_a_line_reads_as_key_and_value(event, line, caplog):
    caplog.set_level("DEBUG", "meshkit")
    log_event(event)
    assert caplog.messages == [line]


def test_a_value_cannot_begin_a_line_of_its_own(caplog):
    log_event(RegistryDisconnected("etcd://h", "bad\nERROR:root:forged"))
    assert "\n" not in caplog.messages[0]


def test_an_error_brings_its_traceback(caplog):
    log_event(TaskCrashed("loop", ValueError("planted")))
    assert caplog.messages == ["task.crashed task=loop"]
    assert "ValueError: planted" in caplog.text


def test_what_nobody_would_read_is_not_written(caplog):
    caplog.set_level(logging.WARNING, "meshkit")
    log_event(REGISTERED)
    assert caplog.records == []
