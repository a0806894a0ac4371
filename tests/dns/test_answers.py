"""What is answered to which question; no sockets."""

from __future__ import annotations

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.update
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.dns.answers import MAX_UDP_SIZE, Answers, Query, read_query
from meshkit.dns.records import srv_weights
from meshkit.dns.zone import Zone
from meshkit.endpoint import Endpoint, EndpointSet, State
from meshkit.errors import ConfigError
from tests.dns.asking import ORIGIN, endpoints, has_flag, question, told

ZONE = Zone(ORIGIN)
TWO = endpoints("10.0.0.5:50051", "10.0.0.6:50052")
SRV = "_hello_service._tcp.mesh.local"


def answer(name, kind="SRV", found=TWO, **keywords):
    query = read_query(question(name, kind, **keywords), ZONE)
    return Answers(ZONE, 1).answer(query, found)


def service(name, kind="SRV"):
    return read_query(question(name, kind), ZONE).service


def test_srv_has_each_endpoint_and_the_hosts_beside():
    reply = answer(SRV)
    assert told(reply) == {
        "SRV 0 25599 50051 0a000005.addr.mesh.local.",
        "SRV 0 25599 50052 0a000006.addr.mesh.local.",
    }
    assert told(reply, "additional") == {"A 10.0.0.5", "A 10.0.0.6"}
    assert reply.answer[0].ttl == 1
    assert has_flag(reply, dns.flags.AA)
    assert not has_flag(reply, dns.flags.RA)


@pytest.mark.parametrize(
    "name", ["_grpc._tcp.hello_service.mesh.local", "hello_service.mesh.local", SRV.upper()]
)
def test_the_same_by_other_names(name):
    assert told(answer(name)) == told(answer(SRV))
    assert service(name) == "hello_service"


def test_the_answer_repeats_the_question_as_it_was_written():
    reply = answer("_HELLO_service._tcp.mesh.LOCAL")
    assert reply.answer[0].name.to_text() == "_HELLO_service._tcp.mesh.LOCAL."


def test_addresses_by_version():
    both = endpoints("10.0.0.5:50051", "10.0.0.5:50052", "[2001:db8::7]:50051")
    assert told(answer("hello_service.mesh.local", "A", both)) == {"A 10.0.0.5"}
    assert told(answer("hello_service.mesh.local", "AAAA", both)) == {"AAAA 2001:db8::7"}
    assert told(answer(SRV, found=both), "additional") == {"A 10.0.0.5", "AAAA 2001:db8::7"}


@pytest.mark.parametrize("host", ["10.0.0.5", "2001:db8::7"])
def test_what_srv_points_at_can_be_asked_for(host):
    address = f"[{host}]:1" if ":" in host else f"{host}:1"
    [record] = answer(SRV, found=endpoints(address)).answer[0]
    kind = "AAAA" if ":" in host else "A"
    assert told(answer(record.target.to_text(), kind, None)) == {f"{kind} {host}"}


def test_a_host_that_is_a_name_is_pointed_at():
    reply = answer(SRV, found=endpoints("one.example.com:50051", "10.0.0.5:50051"))
    assert "SRV 0 25599 50051 one.example.com." in told(reply)
    assert told(reply, "additional") == {"A 10.0.0.5"}


def test_an_address_that_dns_cannot_say_is_left_out():
    assert told(answer(SRV, found=endpoints("x" * 64 + ":1", "nonsense", "10.0.0.5:1"))) == {
        "SRV 0 25599 1 0a000005.addr.mesh.local."
    }


def test_who_takes_no_calls_is_left_out():
    one, *others = (
        Endpoint(service="hello_service", id=f"e{i}", address=f"10.0.0.{i}:1", **fields)
        for i, fields in enumerate([{}, {"weight": 0}, {"state": State.DRAINING}])
    )
    found = EndpointSet.of("hello_service", [one, *others])
    assert told(answer(SRV, found=found)) == {"SRV 0 25599 1 0a000000.addr.mesh.local."}
    assert told(answer("hello_service.mesh.local", "A", found)) == {"A 10.0.0.0"}
    nobody = answer(SRV, found=EndpointSet.of("hello_service", others))
    assert (nobody.rcode(), nobody.answer) == (dns.rcode.NOERROR, [])  # the name is there


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        (SRV, "A", "NOERROR"),  # the name is there, but has nothing of that kind
        (SRV, "TXT", "NOERROR"),
        ("hello_service.mesh.local", "AAAA", "NOERROR"),
        ("0a000005.addr.mesh.local", "AAAA", "NOERROR"),
        ("_tcp.mesh.local", "SRV", "NOERROR"),
        ("_tcp.hello_service.mesh.local", "SRV", "NOERROR"),
        ("addr.mesh.local", "A", "NOERROR"),
        ("mesh.local", "A", "NOERROR"),
        ("0a00000g.addr.mesh.local", "A", "NXDOMAIN"),
        ("x.0a000005.addr.mesh.local", "A", "NXDOMAIN"),
        ("hello_service._tcp.mesh.local", "SRV", "NXDOMAIN"),
        ("_http._tcp.hello_service.mesh.local", "SRV", "NXDOMAIN"),
        ("_hello_service._udp.mesh.local", "SRV", "NXDOMAIN"),
        ("a\\.b.mesh.local", "A", "NXDOMAIN"),
        ("\\255.mesh.local", "A", "NXDOMAIN"),
    ],
)
def test_no_and_nothing_say_how_long_they_hold(name, kind, code):
    found = TWO if service(name, kind) == "hello_service" else None
    reply = answer(name, kind, found)
    assert dns.rcode.to_text(reply.rcode()) == code
    assert not reply.answer
    [[soa]] = reply.authority
    assert (soa.rdtype, soa.minimum) == (dns.rdatatype.SOA, 1)
    assert reply.authority[0].name == ZONE.origin


def test_a_service_that_nobody_registered_is_no_name():
    assert answer(SRV, found=EndpointSet("hello_service")).rcode() == dns.rcode.NXDOMAIN


def test_a_service_of_several_labels():
    assert service("_hello.rpc._tcp.mesh.local") == "hello.rpc"
    assert service("_grpc._tcp.hello.rpc.mesh.local") == "hello.rpc"
    assert service("hello.rpc.mesh.local") == "hello.rpc"


@pytest.mark.parametrize("name", ["a\\.b.mesh.local", "\\255.mesh.local", "x.y.addr.mesh.local"])
def test_what_can_be_no_service_is_not_looked_for(name):
    assert service(name) is None


def test_the_zone_itself():
    assert told(answer("mesh.local", "NS", None)) == {"NS ns.mesh.local."}
    [soa] = told(answer("mesh.local", "SOA", None))
    assert soa.startswith("SOA ns.mesh.local. hostmaster.mesh.local. ")


def test_any_is_answered_with_one_kind():
    reply = answer("hello_service.mesh.local", "ANY")
    assert {rrset.rdtype for rrset in reply.answer} == {dns.rdatatype.SRV}


def refusal(packet: bytes) -> str:
    return dns.rcode.to_text(Answers(ZONE, 1).answer(read_query(packet, ZONE)).rcode())


def test_what_is_not_ours_to_answer():
    assert refusal(question("example.com", "A")) == "REFUSED"
    assert refusal(question("notmesh.local", "A")) == "REFUSED"
    assert refusal(question(SRV, "SRV", rdclass="CH")) == "REFUSED"
    assert refusal(question("mesh.local", "AXFR")) == "REFUSED"
    assert refusal(dns.update.UpdateMessage("mesh.local").to_wire()) == "NOTIMP"
    assert refusal(question(SRV, want_dnssec=False)[:2] + b"\x10\0" + b"\0" * 8) == "NOTIMP"
    assert refusal(b"\0\1\0\0" + b"\0" * 8) == "FORMERR"  # no question
    assert refusal(dns.message.make_query(SRV, "SRV", use_edns=1).to_wire()) == "BADVERS"


def test_an_answer_is_no_question():
    packet = bytearray(question(SRV))
    packet[2] |= 0x80  # QR
    with pytest.raises(dns.exception.DNSException, match="expected"):
        read_query(bytes(packet), ZONE)


MANY = endpoints(*(f"10.0.{i // 200}.{i % 200}:50051" for i in range(400)))


@pytest.mark.parametrize(
    ("size", "most"), [(None, 512), (100, 512), (1232, 1232), (65535, MAX_UDP_SIZE)]
)
def test_an_answer_that_does_not_fit_says_so(size, most):
    query = read_query(question(SRV, size=size), ZONE)
    assert query.udp_size == most
    wire = Answers(ZONE, 1).answer(query, MANY).to_wire(max_size=most, prefer_truncation=True)
    cut = dns.message.from_wire(wire)
    assert len(wire) <= most
    assert has_flag(cut, dns.flags.TC)
    assert not cut.answer  # half a set would be taken for all of it


def test_hosts_that_do_not_fit_are_asked_for_one_by_one():
    some = endpoints(*(f"10.0.0.{i}:50051" for i in range(20)))
    query = read_query(question(SRV, size=1232), ZONE)
    wire = Answers(ZONE, 1).answer(query, some).to_wire(max_size=1232, prefer_truncation=True)
    reply = dns.message.from_wire(wire)
    assert not has_flag(reply, dns.flags.TC)
    assert len(reply.answer[0]) == 20
    assert 0 < len(reply.additional) < 20


def test_not_knowing_is_said_to_whom_it_can_be_said():
    answers = Answers(ZONE, 1)
    told_why = answers.failure(read_query(question(SRV), ZONE), "connect refused")
    assert told_why.rcode() == dns.rcode.SERVFAIL
    assert "connect refused" in str(told_why.options[0])
    plain = answers.failure(read_query(question(SRV, size=None), ZONE), "connect refused")
    assert (plain.rcode(), plain.edns) == (dns.rcode.SERVFAIL, -1)


@pytest.mark.parametrize("domain", ["", "a..b", "x" * 64, "a." * 200, ("x" * 55 + ".") * 4])
def test_no_domain(domain):
    with pytest.raises(ConfigError, match="zone"):
        Zone(domain)


def as_haproxy_reads(weight: int) -> int:
    return (weight + 255) // 256


@given(st.lists(st.integers(1, 256), min_size=1))
def test_haproxy_sees_the_weights_as_they_are(weights):
    found = srv_weights(weights)
    assert [as_haproxy_reads(w) for w in found] == weights
    assert all(0 < w < 65536 for w in found)


@given(st.lists(st.integers(1, 10**6), min_size=1))
def test_greater_weights_keep_their_proportion(weights):
    found = [as_haproxy_reads(w) for w in srv_weights(weights)]
    assert all(1 <= w <= 256 for w in found)
    heaviest = max(weights)
    for weight, seen in zip(weights, found, strict=True):
        assert seen == pytest.approx(256 * weight / max(heaviest, 256), abs=1)


@given(st.binary(max_size=200))
def test_noise_is_read_or_refused(noise):
    try:
        query = read_query(noise, ZONE)
    except dns.exception.DNSException:
        return
    assert isinstance(query, Query)
    Answers(ZONE, 1).answer(query, TWO).to_wire(max_size=query.udp_size, prefer_truncation=True)


@given(st.data())
def test_broken_queries_are_read_or_refused(data):
    packet = bytearray(question(SRV))
    for _ in range(data.draw(st.integers(1, 4))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    test_noise_is_read_or_refused.hypothesis.inner_test(bytes(packet))
