"""What a view has to believe, worked out from all entries each time."""

from dataclasses import replace

from meshkit.endpoint import Endpoint, EndpointSet, State
from meshkit.registry.entries import Entry


def read(key: str, text: str | None) -> Entry | None:
    if text in (None, "garbage"):
        return None
    *leased, address = text.split()
    endpoint = Endpoint(service="hello", id=key, address=address, state=State.SERVING)
    return Entry(endpoint, lease=len(leased))


class PlainView:
    """The rules of `View` with nothing remembered but the entries, the newest last."""

    def __init__(self, hold: float) -> None:
        self.hold = hold
        self.entries: dict[str, Entry] = {}
        self.gone: dict[str, Entry] = {}  # whoever was deleted, until he is back or held again

    def relist(self, now: float, listed: dict[str, str]) -> None:
        found = {key: read(key, text) for key, text in listed.items()}
        for key, entry in self.entries.items():
            if found.get(key) is None and entry.missing_since is None:
                self.entries[key] = replace(entry, missing_since=now)
        for key, confirmed in found.items():
            if confirmed is not None:
                self.put(key, confirmed)
        self.settle(now)

    def apply(self, now: float, changed: dict[str, str | None]) -> None:
        deleted = {}
        for key, text in changed.items():
            confirmed = read(key, text)
            if confirmed is not None:
                self.put(key, confirmed)
            elif key in self.entries:
                deleted[key] = self.entries.pop(key)
        for key, entry in deleted.items():
            if entry.deleted:
                self.gone[key] = entry
            elif entry.missing_since is None:
                self.gone[key] = replace(entry, missing_since=now, deleted=True)
        self.settle(now)

    def settle(self, now: float) -> None:
        confirmed = [entry for entry in self.entries.values() if entry.missing_since is None]
        if not any(entry.leased for entry in confirmed):
            back = {k: entry for k, entry in self.gone.items() if entry.leased or not confirmed}
            self.gone = {k: entry for k, entry in self.gone.items() if k not in back}
            for key, entry in back.items():
                self.entries.pop(key, None)
                self.entries[key] = entry
        self.expire(now)

    def put(self, key: str, confirmed: Entry) -> None:
        if key in self.entries and self.entries[key].endpoint != confirmed.endpoint:
            del self.entries[key]
        self.entries[key] = confirmed
        self.gone.pop(key, None)

    def expire(self, now: float) -> None:
        confirmed = {e.endpoint.address for e in self.entries.values() if e.missing_since is None}
        self.entries = {
            key: entry
            for key, entry in self.entries.items()
            if entry.missing_since is None
            or (not confirmed and not entry.deleted)
            or (entry.endpoint.address not in confirmed and now < entry.missing_since + self.hold)
        }

    def endpoints(self) -> EndpointSet:
        return EndpointSet.of("hello", (entry.endpoint for entry in self.entries.values()))

    def unconfirmed(self) -> int:
        return sum(entry.missing_since is not None for entry in self.entries.values())
