"""Timing that can be trusted: compile time apart, a warm-up, blocked until done, the candidates in turn, medians."""

import json
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax

RESULTS = Path(__file__).parent / "results"


class Timing(NamedTuple):
    """Seconds a unit of work (a step, a run) over several rounds, and the seconds to compile before."""

    name: str
    compile: float
    rounds: tuple[float, ...]

    @property
    def middle(self) -> float:
        """The median, the figure to quote."""
        return median(self.rounds)


def in_turn(candidates: dict[str, tuple[Callable[[], Any], int]], rounds: int) -> list[Timing]:
    """Time the candidates one after another, round by round, so that a slow moment of the machine hits all alike.

    Args:
        candidates: name -> (work, how many units of it a call does). The first call may compile.
        rounds: how often each is timed.
    """
    compiling = {name: _seconds(work) - _seconds(work) for name, (work, _) in candidates.items()}
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, (work, units) in candidates.items():
            seconds[name].append(_seconds(work) / units)
    return [Timing(name, max(0.0, compiling[name]), tuple(seconds[name])) for name in candidates]


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - begun


def report(question: str, timings: list[Timing], unit: str) -> str:
    """A table: compile seconds, microseconds a unit, and how many times as slow as the first candidate."""
    width = max(len(t.name) for t in timings)
    lines = [question, f"{'':{width}}  compile s  µs a {unit}     min     max  times the first"]
    for t in timings:
        low, middle, high = (1e6 * s for s in (min(t.rounds), t.middle, max(t.rounds)))
        lines.append(
            f"{t.name:{width}}  {t.compile:9.2f}  {middle:{5 + len(unit)}.2f}  {low:6.2f}  {high:6.2f}"
            f"  {t.middle / timings[0].middle:15.2f}"
        )
    return "\n".join(lines)


def device() -> dict[str, str]:
    """Where this was measured."""
    first = jax.devices()[0]
    return {
        "platform": first.platform,
        "device": first.device_kind,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def save(name: str, question: str, timings: list[Timing], **figures: float) -> Path:
    """Write what was measured as JSON, one file a question and platform."""
    RESULTS.mkdir(exist_ok=True)
    where = device()
    path = RESULTS / f"{name}-{where['platform']}.json"
    rows = [{"name": t.name, "compile_s": t.compile, "median_s": t.middle, "rounds_s": t.rounds} for t in timings]
    path.write_text(json.dumps({"question": question, **where, **figures, "timings": rows}, indent=1) + "\n")
    return path
