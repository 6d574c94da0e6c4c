"""Timing that can be trusted: compile time apart, a warm-up, blocked until done, the candidates in turn, medians."""

import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np

Work = Callable[[], Any]  # does the units of work, or starts them and returns what there is to wait for
Make = Callable[[], Work]  # data, networks and imports: not timed
PAUSE = 0.1  # seconds; threads of the library before (OpenBLAS, OpenMP) go on looking for work for a while


class Timing(NamedTuple):
    """Seconds a unit of work (a step, a run) over several rounds, and the seconds to compile before.

    Where memory is measured the rounds are bytes.
    """

    name: str
    compile: float
    rounds: tuple[float, ...]

    @property
    def middle(self) -> float:
        """The median, the figure to quote."""
        return median(self.rounds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between these was half of the rounds."""
        low, high = np.quantile(self.rounds, (0.25, 0.75))
        return float(low), float(high)


class Measured(NamedTuple):
    """What was timed, and what could not be: name -> why."""

    timings: list[Timing]
    left_out: dict[str, str]

    def middle(self, name: str) -> float | None:
        """The median of one of them, None if it was left out."""
        return next((t.middle for t in self.timings if t.name == name), None)


def in_turn(candidates: dict[str, tuple[Make, int]], rounds: int) -> Measured:
    """Time the candidates one after another, round by round, so that a slow moment of the machine hits all alike.

    Args:
        candidates: name -> (what makes the work, how many units of it a call does). Its first call may compile. The
            first candidate has to work; another that raises is left out, and why is kept.
        rounds: how often each is timed.
    """
    works, compiling, left_out = {}, {}, {}
    for name, (make, units) in candidates.items():
        try:
            work = make()
            compiling[name] = max(0.0, _seconds(work) - _seconds(work))
            works[name] = work, units
        except Exception as error:  # a peer may fail in any way, and the others are still worth measuring
            if not works:
                raise
            left_out[name] = in_a_line(error)
            print(f"{name}: left out: {left_out[name]}", file=sys.stderr)
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, (work, units) in works.items():
            time.sleep(PAUSE)
            seconds[name].append(_seconds(work) / units)
    return Measured([Timing(name, compiling[name], tuple(seconds[name])) for name in works], left_out)


def _seconds(work: Work) -> float:
    begun = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - begun


def in_a_line(error: Exception, longest: int = 160) -> str:
    """An error as one line of a table."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
