"""The registry as DNS: HAProxy, nginx and `dns:///` clients follow it (needs `meshkit[dns]`)."""

from meshkit.dns.responder import DNSCounts, Responder

__all__ = ["DNSCounts", "Responder"]
