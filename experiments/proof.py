"""Proof: is every derivative right that was derived by hand, and would an error have been found?

Question: for each layer, activation, loss, penalty and whole network: by hand against autodiff of an independent
          formula, against a complex step, against differences; in every regime; and against rules with planted errors.
Source:   ours. The records are in experiments/derivatives: how a part is made, the formula, where it is looked at,
          how it could be wrong. A complex step is Squire & Trapp's (1998), doi:10.1137/S003614459631241X.
Command:  python -m experiments proof
Time:     about three minutes on two CPU cores, nearly all of it compiling.
Expected: autodiff within 1e-12, a complex step within 1e-13, differences within 1e-10 (where they can see so much),
          float32 within 2e-5, bfloat16 within 2e-2, kinks as docs/kinks.md has them, all planted errors found.
"""

import multiprocessing
import os
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure as Picture

from experiments.report import OURS, Figure, Result, Row, at_least, holds
from fnn import plots

COLUMNS = {"autodiff": 1e-12, "complex step": 1e-13, "differences": 1e-10, "float32": 2e-5, "bfloat16": 2e-2}


class Settings(NamedTuple):
    """Which records, and how many processes at once."""

    titles: tuple[str, ...] = ()  # none: all
    processes: int = min(2, os.cpu_count() or 1)


class Line(NamedTuple):
    """A line of the table: the worst of all regimes; nan where a way does not apply."""

    kind: str
    title: str
    figures: dict[str, float]
    regimes: int
    kinks: int
    found: int
    planted: int
    wrong: tuple[str, ...]


def main(settings: Settings) -> Result:
    """Examine all records, some at once, and print a line for each as it is done."""
    from experiments.derivatives.registry import ALL

    titles = settings.titles or tuple(ALL)
    print(_line(["", *COLUMNS, "regimes", "planted", ""]), flush=True)
    lines = {}
    for line in _examined(titles, settings.processes):
        lines[line.title] = line
        print(_shown(line), flush=True)
    done = [lines[title] for title in titles]
    planted, found = (sum(getattr(line, name) for line in done) for name in ("planted", "found"))
    print(f"{found:,} of {planted:,} planted errors found, in {len(done)} parts", flush=True)
    rows = [*map(_row, done), at_least("Planted errors found, of all", planted, found)]
    fewest = min(line.planted for line in done)
    return Result(
        title="Proven derivatives",
        question="Is every derivative right that was derived by hand, and would an error have been found?",
        rows=[*rows, at_least("Errors planted in a part, at the least", 8, fewest)],
        figures=[Figure("How far by hand is from the others", "Each line is a part, the worst of all regimes. The "
                        "vertical lines are what is asked for.", _picture(done))],
        notes=[
            "Normwise: the largest difference over the largest value of the leaf, the worst leaf of the worst regime.",
            "Regimes: random, saturated (20, 50, 100, 1000 either way), zero, masked rows, constant rows, one row, "
            "4,096 rows, after 200 steps of training on iris; for losses, targets that sum to 0, 0.5, 1 and 2.",
            "Planted errors: a sign, a factor 1 + 1e-6, a leaf or a number left out, transposed, reversed, a wrong "
            "axis, n - 1 for n, dy left out or of another row, the mask ignored, and errors of each part's own kind.",
            "A dash: gelu's error function and CIoU's arctan have no complex form; where CIoU holds its weight "
            "constant, the rule is not the derivative of the value: autodiff of the same convention remains.",
            "Ten layers of bfloat16 cost more than 2e-2 whoever differentiates them; there the limit is what autodiff "
            "of the same network loses, half as much again.",
        ],
        numbers={"lines": done},
    )  # fmt: skip


def examine(title: str) -> Line:
    """One record, in float64; what can be sent from process to process."""
    import jax

    from experiments.derivatives.examine import examine as prove
    from experiments.derivatives.registry import ALL

    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        found = prove(ALL[title]())
    figures = {
        "autodiff": max(found.worst("autodiff"), found.worst("value")),
        "complex step": found.worst("complex_step"),
        "differences": found.worst("numerical"),
        **found.halves,
    }
    caught = found.planted - len(found.missed)
    return Line(
        found.part.kind, title, figures, len(found.seen), len(found.kinks), caught, found.planted, tuple(found.wrong)
    )


def _examined(titles: tuple[str, ...], processes: int) -> Any:
    if processes == 1 or len(titles) == 1:
        yield from map(examine, titles)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:  # JAX does not survive a fork
        yield from pool.imap(examine, titles)


# ---- what is reported


def _small(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.0e}" if value else "0"


def _line(cells: list[str]) -> str:
    return f"{cells[0]:<58}" + "".join(f"{cell:>13}" for cell in cells[1:-1]) + f"  {cells[-1]}"


def _shown(line: Line) -> str:
    figures = [_small(line.figures[name]) for name in COLUMNS]
    verdict = "right" if not line.wrong else "WRONG: " + "; ".join(line.wrong)
    return _line([line.title[:57], *figures, str(line.regimes), f"{line.found}/{line.planted}", verdict])


def _row(line: Line) -> Row:
    """A part in the table of the page."""
    figures = ", ".join(f"{name} {_small(line.figures[name])}" for name in COLUMNS)
    return holds(
        f"{line.kind}: {line.title}",
        f"right in {line.regimes} regimes" + (f", at {line.kinks} kink{'s'[: line.kinks > 1]}" if line.kinks else ""),
        "; ".join(line.wrong) or f"{figures}; {line.found} of {line.planted} planted errors found",
        "within the limits in the picture",
        not line.wrong,
        OURS,
    )


def _picture(lines: list[Line]) -> Picture:
    """A marker a part and a way, on a logarithmic scale; exact agreement is at the left edge."""
    picture = Picture(figsize=(9.0, 0.19 * len(lines) + 1.5), layout="constrained")
    ax = picture.add_subplot()
    places, least = np.arange(len(lines)), 1e-17
    for (name, limit), marker, colour in zip(COLUMNS.items(), "os^Dv", plots.LINE_COLOURS, strict=False):
        values = np.array([line.figures[name] for line in lines])
        label = f"{name}, at most {limit:g}"
        ax.plot(np.maximum(values, least), places, marker, color=colour, markersize=4, label=label)
        ax.axvline(limit, color=colour, linewidth=0.8, linestyle=":")
    ax.set_yticks(places, [line.title[:60] for line in lines], fontsize=7)
    ax.set(xscale="log", xlabel="largest difference over largest value", ylim=(len(lines) - 0.5, -0.5))
    picture.legend(fontsize=8, loc="outside upper center", ncols=len(COLUMNS), frameon=False)
    return picture
