"""Load reports against the official message."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xds.data.orca.v3.orca_load_report_pb2 import OrcaLoadReport

from meshkit.orca import LoadReport

FIGURES = st.floats(min_value=0, allow_infinity=False, allow_nan=False)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def reports(entries: int) -> st.SearchStrategy[LoadReport]:
    maps = st.dictionaries(st.text(max_size=20), FINITE, max_size=entries)
    return st.builds(
        LoadReport,
        cpu_utilization=FIGURES,
        mem_utilization=FIGURES,
        application_utilization=FIGURES,
        rps=FIGURES,
        eps=FIGURES,
        request_cost=maps,
        utilization=maps,
        named_metrics=maps,
    )


def official(report: LoadReport) -> OrcaLoadReport:
    return OrcaLoadReport(
        cpu_utilization=report.cpu_utilization,
        mem_utilization=report.mem_utilization,
        application_utilization=report.application_utilization,
        rps_fractional=report.rps,
        eps=report.eps,
        request_cost=report.request_cost,
        utilization=report.utilization,
        named_metrics=report.named_metrics,
    )


@given(reports(entries=1))  # protobuf promises no order of several
def test_its_bytes_are_those_of_the_official_message(report):
    assert report.to_bytes() == official(report).SerializeToString()


@given(reports(entries=5))
def test_the_official_message_and_ours_read_each_other(report):
    assert OrcaLoadReport.FromString(report.to_bytes()) == official(report)
    assert LoadReport.from_bytes(official(report).SerializeToString()) == report


@pytest.mark.parametrize("length", [127, 128, 16384])
def test_names_may_be_long(length):
    report = LoadReport(named_metrics={"x" * length: 1.0})
    assert report.to_bytes() == official(report).SerializeToString()
    assert LoadReport.from_bytes(report.to_bytes()) == report


def test_fields_that_are_not_known_are_skipped():
    more = (
        struct.pack("<BB", 3 << 3, 200) + b"\x01"  # the old rps, a varint
        + struct.pack("<Bi", 10 << 3 | 5, 7) + struct.pack("<Bd", 11 << 3 | 1, 7.0)
        + struct.pack("<BB", 12 << 3 | 2, 2) + b"ab"
    )  # fmt: skip
    known = LoadReport(cpu_utilization=0.5, rps=3.0)
    assert LoadReport.from_bytes(more + known.to_bytes() + more) == known


def test_a_map_entry_may_leave_out_what_is_zero():
    assert LoadReport.from_bytes(b"\x42\x00") == LoadReport(named_metrics={"": 0.0})


@pytest.mark.parametrize("figure", [-1.0, math.nan, math.inf])
def test_figures_that_make_no_sense_are_left_out(figure):
    message = OrcaLoadReport(cpu_utilization=figure, rps_fractional=2.0)
    assert LoadReport.from_bytes(message.SerializeToString()) == LoadReport(rps=2.0)


def test_a_metric_that_is_no_number_is_left_out():
    message = OrcaLoadReport(named_metrics={"a": math.nan, "b": -1.0})
    assert LoadReport.from_bytes(message.SerializeToString()) == LoadReport(
        named_metrics={"b": -1.0}
    )


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",  # a tag and nothing
        b"\x09\x00",  # a double that is cut off
        b"\x55\x00\x00",  # four bytes that are cut off
        b"\x22\xff\x01a",  # a map entry that is cut off
        b"\x42\x03\x0a\x01\xff",  # a name that is not UTF-8
        b"\x0b",  # a group, which no message has any more
        b"\x08" + b"\xff" * 20,
    ],
)
def test_what_is_no_such_message_is_no_report(data):
    assert LoadReport.from_bytes(data) is None


@given(st.binary(max_size=60))
def test_any_bytes_can_be_read(data):
    LoadReport.from_bytes(data)


def test_a_balancer_divides_by_the_figure_of_the_application():
    assert LoadReport(cpu_utilization=0.5).busy == 0.5
    assert LoadReport(cpu_utilization=0.5, application_utilization=0.25).busy == 0.25
