"""From a query to its answer. No I/O in here.

We are the one authority for a small zone: no recursion, no transfers, no signatures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rrset
from dns import opcode, rcode, rdatatype
from dns.rdata import Rdata
from dns.rdataclass import IN

from meshkit.dns.records import Records, address_record, authority_records
from meshkit.dns.zone import APEX, BETWEEN, HostName, Meaning, ServiceName, Zone
from meshkit.endpoint import EndpointSet

__all__ = ["MAX_UDP_SIZE", "Answers", "Query", "read_query"]

MAX_UDP_SIZE: Final = 8192  # bytes; the most that HAProxy takes
_PLAIN_UDP_SIZE: Final = 512
_TRANSFERS: Final = frozenset({rdatatype.AXFR, rdatatype.IXFR})


@final
@dataclass(frozen=True, slots=True)
class Query:
    """A query that can be read.

    Attributes:
        message: as it came.
        refusal: the code of the answer if there is no more to say.
        name: what it asks about.
        rdtype: which kind of records it asks for.
        meaning: what the name stands for; None if for nothing.
    """

    message: dns.message.Message
    refusal: rcode.Rcode | None = None
    name: dns.name.Name = dns.name.root
    rdtype: rdatatype.RdataType = rdatatype.ANY
    meaning: Meaning | None = None

    @property
    def service(self) -> str | None:
        """Whose endpoints the answer needs; None if it needs none."""
        return self.meaning.service if isinstance(self.meaning, ServiceName) else None

    @property
    def udp_size(self) -> int:
        """The most bytes that the asker takes in one packet."""
        return min(max(_PLAIN_UDP_SIZE, self.message.payload), MAX_UDP_SIZE)


def read_query(packet: bytes, zone: Zone) -> Query:
    """What `packet` asks of `zone`.

    Raises:
        dns.exception.DNSException: it is no query.
    """
    message = dns.message.from_wire(packet)
    if message.flags & dns.flags.QR:
        raise dns.exception.FormError("an answer, where a query was expected")
    if message.opcode() != opcode.QUERY:
        return Query(message, rcode.NOTIMP)
    if message.edns > 0:
        return Query(message, rcode.BADVERS)
    if len(message.question) != 1:
        return Query(message, rcode.FORMERR)
    [asked] = message.question
    is_ours = asked.rdclass == IN and asked.name in zone
    if not is_ours or asked.rdtype in _TRANSFERS:
        return Query(message, rcode.REFUSED)
    return Query(message, None, asked.name, asked.rdtype, zone.meaning(asked.name))


@final
class Answers:
    """Answers queries about one zone.

    Args:
        zone: the names.
        ttl: how many seconds others may remember what we say.
    """

    def __init__(self, zone: Zone, ttl: int) -> None:
        self._zone = zone
        self._ttl = ttl
        self._soa, self._ns = authority_records(zone, ttl)

    def answer(self, query: Query, endpoints: EndpointSet | None = None) -> dns.message.Message:
        """What there is to say; `endpoints` are those of `query.service`."""
        reply = _reply(query.message)
        if query.refusal is not None:
            reply.set_rcode(query.refusal)
            return reply
        reply.flags |= dns.flags.AA
        records = None if not endpoints else Records.of(endpoints, self._zone)
        found = self._records(query, records)
        if found is None:
            reply.set_rcode(rcode.NXDOMAIN)
        chosen = _chosen(found or {}, query.rdtype)
        if not chosen:
            reply.authority.append(self._rrset(self._zone.origin, [self._soa]))
            return reply
        reply.answer.append(self._rrset(query.name, chosen))
        if records is not None and chosen[0].rdtype == rdatatype.SRV:
            reply.additional += [
                self._rrset(name, [address_record(address)])
                for name, address in records.hosts.items()
            ]
        return reply

    def failure(self, query: Query, why: str) -> dns.message.Message:
        """That we cannot know yet: the asker may try again, and keeps what it has."""
        reply = _reply(query.message)
        reply.set_rcode(rcode.SERVFAIL)
        if query.message.edns >= 0:
            told = dns.edns.EDEOption(dns.edns.EDECode.NOT_READY, why)
            reply.use_edns(0, payload=MAX_UDP_SIZE, options=[told])
        return reply

    def _records(
        self, query: Query, records: Records | None
    ) -> dict[rdatatype.RdataType, list[Rdata]] | None:
        """All records of the name, by kind; None if there is no such name."""
        meaning = query.meaning
        if meaning is APEX:
            return {rdatatype.SOA: [self._soa], rdatatype.NS: [self._ns]}
        if meaning is BETWEEN:
            return {}
        if isinstance(meaning, HostName):
            record = address_record(meaning.address)
            return {rdatatype.RdataType(record.rdtype): [record]}
        if not isinstance(meaning, ServiceName) or records is None:
            return None
        found: dict[rdatatype.RdataType, list[Rdata]] = {rdatatype.SRV: [*records.srv]}
        if meaning.has_addresses:
            found[rdatatype.A] = records.addresses(4)
            found[rdatatype.AAAA] = records.addresses(6)
        return found

    def _rrset(self, name: dns.name.Name, records: Iterable[Rdata]) -> dns.rrset.RRset:
        return dns.rrset.from_rdata_list(name, self._ttl, list(records))


def _reply(query: dns.message.Message) -> dns.message.Message:
    return dns.message.make_response(query, our_payload=MAX_UDP_SIZE)


def _chosen(
    found: dict[rdatatype.RdataType, list[Rdata]], rdtype: rdatatype.RdataType
) -> list[Rdata]:
    """Those asked for; of ANY one kind, which is allowed and no gift to forgers (RFC 8482)."""
    if rdtype == rdatatype.ANY:
        return next((records for records in found.values() if records), [])
    return found.get(rdtype, [])
