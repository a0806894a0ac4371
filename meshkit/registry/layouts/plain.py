"""What the layouts share whose values are addresses and nothing else."""

from __future__ import annotations

from meshkit.endpoint import Endpoint
from meshkit.registry.layouts.layout import ADDRESS, Folder, check_address
from meshkit.registry.layouts.reading import read_text

__all__ = ["Plain"]


class Plain(Folder):
    """Weight, zone, version and labels are not written; the id is the address for who reads it."""

    detail = ADDRESS

    def decode(self, service: str, key: str, value: bytes) -> Endpoint:
        """The endpoint at the address in `value`; `key` is not looked at."""
        del key  # writers put all kinds of names there; the value is what they all dial
        address = check_address(read_text(value).strip())
        return Endpoint(service=service, id=address, address=address)
