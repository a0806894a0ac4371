"""The reference says what the code does: tables, variables, parameters and error texts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

import pytest

import meshkit
from meshkit import Counts, Endpoint, EndpointSet, Resolution
from meshkit.balancer import EVERY, Selector
from meshkit.client.explain import explain
from meshkit.config import Settings
from meshkit.registry import url as url_module
from meshkit.registry.registry import DEFAULT_TTL
from tests.docs.generate import TABLES, regenerated
from tests.docs.markdown import ROOT, pages

CONFIGURATION = ROOT.joinpath("docs/reference/configuration.md").read_text("utf-8")
ERRORS = ROOT.joinpath("docs/how-to/errors.md").read_text("utf-8")


@pytest.mark.parametrize("page", pages())
def test_tables_are_those_of_the_code(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    assert regenerated(text) == text, "run: python -m tests.docs.generate"


def test_all_tables_are_somewhere() -> None:
    text = "".join((ROOT / page).read_text("utf-8") for page in pages())
    assert {name for name in TABLES if f"<!-- generated: {name} -->" in text} == set(TABLES)


class Recorder(dict[str, str]):
    """An empty environment that remembers what was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, name, default=None):
        self.asked.add(name)
        return default

    def __contains__(self, name) -> bool:
        self.asked.add(name)
        return False


def test_environment_variables() -> None:
    environ = Recorder()
    nothing = dict.fromkeys(("namespace", "ttl", "layout", "advertise"))
    Settings.resolve("etcds://host", **nothing, environ=environ)
    Settings.resolve(None, **nothing, environ=environ)
    read = {name for name in environ.asked if name.startswith("MESHKIT_")}
    read |= {
        name
        for path in ROOT.joinpath("meshkit").rglob("*.py")
        for name in re.findall(r"environ(?:\.get\(|\[)\"(MESHKIT_\w+)\"", path.read_text("utf-8"))
    }
    assert set(re.findall(r"MESHKIT_[A-Z_]+", CONFIGURATION)) == read


def test_url_parameters() -> None:
    rows = dict(re.findall(r"^\| `(\w+):[^|]*\|[^|]*\|([^|]*)\|$", CONFIGURATION, re.MULTILINE))
    params: Mapping[str, tuple[str, ...]] = url_module._PARAMS
    for scheme, known in params.items():
        assert tuple(re.findall(r"`(\w+)`", rows[scheme])) == known, scheme


def test_defaults_of_the_settings() -> None:
    nothing = dict.fromkeys(("namespace", "ttl", "layout", "advertise"))
    settings = Settings.resolve(None, **nothing, environ={})
    assert f"| `MESHKIT_TTL` | {DEFAULT_TTL:g} |" in CONFIGURATION
    assert f"| `MESHKIT_NAMESPACE` | `{settings.namespace}` |" in CONFIGURATION
    assert f"| `MESHKIT_REGISTRY` | `{settings.registry}` |" in CONFIGURATION


def test_the_keys_are_written_as_shown() -> None:
    from meshkit.registry.layouts import make_layout

    text = ROOT.joinpath("docs/reference/keys.md").read_text("utf-8")
    full = meshkit.Endpoint(
        service="hello_service",
        id="3f9c2a77e01b",
        address="10.0.0.5:50051",
        weight=50,
        zone="eu-1",
        version="1.4.2",
        keepalive=5.0,
        metadata={"team": "a"},
    )
    plain = meshkit.Endpoint(
        service="hello_service", id="3f9c2a77e01b", address="10.0.0.5:50051", keepalive=5.0
    )
    for layout, endpoint in (("meshkit", plain), ("etcd3_naming", plain)):
        key, value = make_layout(layout).encode("default", endpoint)
        assert f"key     {key}\nvalue   {value.decode()}\n" in text
    assert f"```json\n{make_layout().encode('default', full)[1].decode()}\n```" in text


# ---- error texts

KINDS = {
    "ConfigError",
    "MeshClosedError",
    "RegistryError",
    "RegistryUnavailable",
    "RegistryAuthError",
}
# Raised where no user of the documented interface can meet them, or said better by another text.
NOT_FOR_USERS = {
    "meshkit/registry/memory/store.py": "the faults that a test asks for",
    "meshkit/testing/etcd.py": "says all there is to say, to who tests",
    "meshkit/registry/etcd/options.py": "cannot be said in a URL, which is checked before",
    "meshkit/registry/layouts/meshkit.py": "the keepalive is ours",
    "meshkit/registry/registrar.py": "`serve` and `register` never register nothing",
}
# Passed on from etcd or gRPC, or put together from parts: not one text of the code.
FOREIGN = ("etcd at 10.0.0.1:2379: ", "meshkit: ", "Deadline Exceeded", "static: '10", "/srv: ")
FIRST_WORDS = 12  # characters of fixed text, below which a text is another one passed on


def _pattern(node: ast.expr) -> str | None:
    """A regular expression for the texts that an expression can be; None if it says nothing."""
    if isinstance(node, ast.Constant):
        node = ast.JoinedStr([node])
    if not isinstance(node, ast.JoinedStr):
        return None
    fixed = [part.value for part in node.values if isinstance(part, ast.Constant)]
    if len("".join(fixed)) < FIRST_WORDS:
        return None
    return "".join(
        re.escape(part.value) if isinstance(part, ast.Constant) else ".+" for part in node.values
    )


def _raised() -> Iterator[tuple[str, str, str]]:
    """Where, which kind, and a pattern of the text, for each error that the code makes."""
    for path in sorted(ROOT.joinpath("meshkit").rglob("*.py")):
        where = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in KINDS and node.args and (pattern := _pattern(node.args[0])):
                yield f"{where}:{node.lineno}", node.func.id, pattern


def _documented() -> set[str]:
    """The texts of the page: first cells of tables that are code, and blocks of text."""
    cells = re.findall(r"^\| `([^`]+)` \|", ERRORS, re.MULTILINE)
    return {*cells, *re.findall(r"^```text\n(.*)\n```$", ERRORS, re.MULTILINE)}


def test_every_error_text_is_explained() -> None:
    texts = _documented()
    missing = [
        f"{where}: {pattern}"
        for where, kind, pattern in _raised()
        # An outage heals by itself, and its many texts need nobody's action.
        if kind != "RegistryUnavailable"
        and not where.startswith(tuple(NOT_FOR_USERS))
        and not any(re.fullmatch(pattern, text) for text in texts)
    ]
    assert not missing, "\n".join(missing)


def test_every_explained_text_exists() -> None:
    patterns = [pattern for *_, pattern in _raised()]
    source = "".join(p.read_text("utf-8") for p in ROOT.joinpath("meshkit").rglob("*.py"))
    for text in _documented():
        if text.startswith(FOREIGN) or text in source or text.isupper():
            continue
        beginning = text.removesuffix("...")
        assert beginning in source or any(re.fullmatch(p, text) for p in patterns), text


def test_each_no_is_said_as_shown() -> None:
    """With the very values of the page."""
    where = Watched()
    counts = {
        "2 failing": Counts(failing=2),
        "1 connecting": Counts(connecting=1),
        "2 ejected": Counts(ejected=2),
    }
    limited = "meshkit: no more calls"
    shown = sorted(t for t in _documented() if "meshkit: " in t and not t.startswith(limited))
    assert len(shown) == 6
    for text in shown:
        known = re.search(r"(\d) known: (\d \w+)", text)
        trouble = re.search(r"never synced\): (.*)\. Next", text)
        cause = re.search(r"Last error: (.*)\. Next", text)
        others = re.search(r"(\d) others", text)
        version = re.search(r"version (\w+)", text)
        age = re.search(r"synced ([\d.]+) s ago", text)
        where.seconds = float(age[1]) if age else None
        endpoints = EndpointSet.of(
            "hello_service",
            (
                Endpoint(service="hello_service", id=str(number), address=f"h:{number}")
                for number in range(sum(int(found[1]) for found in (known, others) if found))
            ),
        )
        said = explain(
            "hello_service",
            Resolution(None if trouble else endpoints, trouble[1] if trouble else None),
            where,
            selector=Selector(version[1]) if version else EVERY,
            counts=counts[known[2]] if known else Counts(),
            cause=cause[1] if cause else "",
        )
        assert said == text.removeprefix("Deadline Exceeded while waiting. ")


class Watched:
    """A watch, as far as the text asks for it."""

    service = "hello_service"
    registry = "etcd://10.0.0.1:2379"
    seconds: float | None = None

    def age(self) -> float | None:
        return self.seconds
