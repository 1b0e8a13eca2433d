"""DNS messages: what a query asks, and answers from the table. Bytes are dnspython's, sockets are server.py's. Pure.

A host of the mesh that has no address of the version asked for has an empty answer, never NXDOMAIN: clients ask for A
and AAAA at once, and would take that for the whole name (Istio: issue 31250).
"""

from __future__ import annotations

import random
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from agent.dns.table import Found, Table

TTL: Final = 30
MOST_BYTES: Final = 65_535
_MOST_OF_UDP: Final = 65_507
"""What a datagram over IPv4 can carry, whatever the client would take."""
_LEAST_BYTES: Final = 512
_VERSIONS: Final = {dns.rdatatype.A: False, dns.rdatatype.AAAA: True}


class MalformedQueryError(ValueError):
    """The bytes are no query that could be answered."""


def read(data: bytes) -> dns.message.Message:
    """A query.

    Raises:
        MalformedQueryError: it is none.
    """
    try:
        query = dns.message.from_wire(data)
    except (dns.exception.DNSException, ValueError) as error:
        raise MalformedQueryError(str(error)) from error
    if query.flags & dns.flags.QR:
        raise MalformedQueryError("a response")
    return query


def known(query: dns.message.Message, table: Table) -> dns.message.Message | None:
    """The answer for a host of the mesh; None: somebody else has to be asked."""
    question = query.question[0] if query.question else None
    if question is None or question.rdtype not in _VERSIONS or question.rdclass != dns.rdataclass.IN:
        return None
    found = table.find(question.name.to_text(omit_final_dot=True).lower())
    return None if found is None else _answer(query, question, found)


def failure(query: dns.message.Message) -> dns.message.Message:
    """SERVFAIL: the name cannot be looked up now."""
    response = dns.message.make_response(query, recursion_available=True)
    response.set_rcode(dns.rcode.SERVFAIL)
    return response


def write(response: dns.message.Message, query: dns.message.Message, *, stream: bool) -> bytes:
    """The bytes of a response, cut short (and marked so) where the client takes no more by UDP."""
    offered = query.payload if query.edns >= 0 else 0
    limit = MOST_BYTES if stream else min(max(_LEAST_BYTES, offered), _MOST_OF_UDP)
    return response.to_wire(max_size=limit, prefer_truncation=True)


def _answer(query: dns.message.Message, question: dns.rrset.RRset, found: Found) -> dns.message.Message:
    response = dns.message.make_response(query, recursion_available=True)
    response.flags |= dns.flags.AA
    wanted = [one for one in found.addresses if (":" in one) is _VERSIONS[question.rdtype]]
    if not wanted:
        return response
    random.shuffle(wanted)
    owner = question.name
    if found.alias:
        target = dns.name.from_text(f"{found.alias}.")
        alias = dns.rrset.from_text(owner, TTL, dns.rdataclass.IN, dns.rdatatype.CNAME, target.to_text())
        response.answer.append(alias)
        owner = target
    response.answer.append(dns.rrset.from_text(owner, TTL, dns.rdataclass.IN, question.rdtype, *wanted))
    return response
