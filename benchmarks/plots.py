"""Draws what the simulated fleet does into docs/images, as SVG; the same for the same code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.experiments import SUBSET, deaths, spread, storm, subset_spread
from meshkit.balancer import policy_named
from meshkit.client.budget import RetryLimits

# Those that look at a call's key are even in another sense.
POLICIES = ("adaptive", "round_robin", "random", "p2c", "p2c_ewma", "least_request")

IMAGES = Path(__file__).parents[1] / "docs" / "images"

# No date, no random ids, text as text: a drawing changes when its figures do.
STYLE = {
    "svg.hashsalt": "meshkit",
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "figure.figsize": (7.0, 3.6),
    "figure.constrained_layout.use": True,
}


@contextmanager
def figure(name: str, *, title: str, x: str, y: str) -> Iterator[Any]:
    """Axes to draw on; afterwards the file `docs/images/<name>.svg` is there."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        drawing = Figure()
        axes = drawing.subplots()
        axes.set(title=title, xlabel=x, ylabel=y)
        yield axes
        axes.legend()
        IMAGES.mkdir(exist_ok=True)
        drawing.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})
    print(f"docs/images/{name}.svg", flush=True)


def draw_spread() -> None:
    """How evenly the calls are spread."""
    title = "Calls of each server, 1,000 clients, 60 % load, 4 s"
    with figure("spread", title=title, x="server, busiest first", y="share of the mean") as axes:
        for name in POLICIES:
            found = spread(policy_named(name))
            axes.plot(found.shares, label=f"{name}: p99 {found.p99 * 1e3:.0f} ms", lw=1.2)


def draw_deaths() -> None:
    """What calls fail when servers freeze."""
    title = f"100 of 1,000 servers freeze at 2 s; each client knows {SUBSET}"
    with figure("deaths", title=title, x="seconds", y="share of calls that fail") as axes:
        for name in POLICIES:
            at, shares = zip(*deaths(policy_named(name)), strict=True)
            axes.plot(at, shares, label=name, lw=1.2)
        axes.axvspan(7.0, 10.0, alpha=0.1, label="pings notice it")


def draw_subsets() -> None:
    """How evenly servers are part of subsets."""
    title = "Clients of each server, 1,000 clients that each know a subset of 1,000"
    with figure("subsets", title=title, x="server, most first", y="share of the mean") as axes:
        for size in (5, SUBSET, 100):
            shares = subset_spread(size)
            axes.plot(shares, label=f"{size} each: at most {shares[0]:.2f}", lw=1.2)
        axes.set_ylim(bottom=0)


def draw_storm() -> None:
    """What retries add when everything fails."""
    budget, none = RetryLimits(), RetryLimits(share=1e6)
    lines = (
        ("1,000 clients, 50 calls/s each, no budget", none, 1_000, 50.0),
        ("1,000 clients, 10 calls/s each", budget, 1_000, 10.0),
        ("1,000 clients, 50 calls/s each", budget, 1_000, 50.0),
        ("200 clients, 250 calls/s each", budget, 200, 250.0),
    )
    title = "Every attempt fails from 5 to 15 s; up to 4 attempts a call"
    with figure("storm", title=title, x="seconds", y="attempts per call") as axes:
        for label, limits, clients, rate in lines:
            at, attempts = zip(*storm(limits, clients=clients, rate=rate), strict=True)
            axes.plot(at, attempts, label=label, lw=1.2)
        axes.set_ylim(0, 6)  # room for the legend


PLOTS: dict[str, Callable[[], None]] = {
    "spread": draw_spread,
    "deaths": draw_deaths,
    "storm": draw_storm,
    "subsets": draw_subsets,
}
