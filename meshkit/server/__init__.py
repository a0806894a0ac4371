"""The server room: gRPC servers that join the mesh and leave it without dropping a call."""

from meshkit.server.address import check_advertise, find_place
from meshkit.server.calls import Draining, Quiet, draining
from meshkit.server.limit import AdaptiveLimit
from meshkit.server.load import LoadReports, report_load
from meshkit.server.options import ServerKeywords, ServerOptions, Site
from meshkit.server.phase import Phase
from meshkit.server.server import Server

__all__ = [
    "AdaptiveLimit",
    "Draining",
    "LoadReports",
    "Phase",
    "Quiet",
    "Server",
    "ServerKeywords",
    "ServerOptions",
    "Site",
    "check_advertise",
    "draining",
    "find_place",
    "report_load",
]
