"""Pictures of what was measured: bars of medians with their spread, lines with their exponents."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.timing import Timing
from fnn.plots.axes import round_numbers

FIRST, BOUND, OTHER, INK = "#c8553d", "#7a8b3c", "#5a7d9a", "#333333"
COLOURS = ("#1f3a4d", "#c8553d", "#7a8b3c", "#8a6bab", "#c99a2e", "#5a7d9a")
FAR = 20  # medians that span more than this factor are drawn on a logarithmic scale


class Line(NamedTuple):
    """A cost against a size: at each size the median, and between what half of the rounds was."""

    name: str
    sizes: tuple[float, ...]
    middles: tuple[float, ...]
    quartiles: tuple[tuple[float, float], ...]
    exponent: float


def drawn(draw: Callable[[], Any], written: Path) -> str:
    """Draw beside the JSON; a line that says where both are, or how to get the picture."""
    try:
        import matplotlib
    except ImportError:
        return f'Written to {written.name}. For the picture do run: pip install "fnn[bench]"'
    with matplotlib.rc_context({"svg.hashsalt": "fnn", "font.size": 9}):  # the same numbers give the same file
        draw().savefig(written.with_suffix(".svg"), metadata={"Date": None})
    return f"Written to {written.name}, drawn in {written.stem}.svg."


def bars(question: str, timings: list[Timing], unit: str, short: str, size: float) -> Any:
    """A bar a candidate, as long as its median; the line across its end is where half of the rounds was."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(8, 1.3 + 0.32 * len(timings)), layout="constrained")
    ax = figure.add_subplot()
    middles = [t.middle / size for t in timings]
    spread = [[m - t.quartiles[0] / size for t, m in zip(timings, middles, strict=True)],
              [t.quartiles[1] / size - m for t, m in zip(timings, middles, strict=True)]]  # fmt: skip
    colours = [FIRST if i == 0 else BOUND if t.name.startswith("bound:") else OTHER for i, t in enumerate(timings)]
    ax.barh(range(len(timings)), middles, color=colours, xerr=spread, error_kw={"ecolor": INK, "capsize": 2})
    far = max(middles) > FAR * min(middles)
    ax.set_xscale("log" if far else "linear")
    ends = [t.quartiles[1] / size for t in timings]
    for place, (middle, end) in enumerate(zip(middles, ends, strict=True)):
        times = f", {digits(middle / middles[0])} ×" if place else ""
        ax.annotate(
            f"{digits(middle)} {short}{times}",
            (end, place),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK,
        )
    # room on the right for the numbers
    ax.set_xlim(*((0.5 * min(middles), 8 * max(ends)) if far else (0, 1.35 * max(ends))))
    if far:
        _marked(ax.xaxis, round_numbers(*ax.get_xlim()))
    ax.set_yticks(range(len(timings)), [t.name for t in timings])
    ax.invert_yaxis()
    ax.set_xlabel(f"{short} per {unit}: median, and where half of the rounds was{' (logarithmic)' if far else ''}")
    figure.suptitle(question, x=0.01, ha="left", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    kinds = [(FIRST, "the first, 1 ×"), (BOUND, "a bound"), (OTHER, "the others")]
    handles = [Patch(color=colour, label=label) for colour, label in kinds if colour in colours]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)
    return figure


def panels(title: str, groups: dict[str, tuple[str, str, list[Line]]]) -> Any:
    """One pair of logarithmic axes a group, name -> (label of x, label of y, lines); the legend has the exponents."""
    from matplotlib.figure import Figure

    columns = 3
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(4.0 * columns, 3.3 * rows), layout="constrained")
    for place, (name, (across, up, lines)) in enumerate(groups.items()):
        ax = figure.add_subplot(rows, columns, place + 1)
        for line, colour in zip(lines, COLOURS, strict=False):
            below, above = ([abs(q[i] - m) for q, m in zip(line.quartiles, line.middles, strict=True)] for i in (0, 1))
            label = f"{line.name}: exponent {line.exponent:.2f}"
            ax.errorbar(
                line.sizes, line.middles, yerr=[below, above], fmt="o-", color=colour, ms=3.5, lw=1.2, capsize=2,
                label=label,
            )  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel=across, ylabel=up)
        low, high = ax.get_ylim()
        if high < 10 * low:  # flat: a decade around it shows that it is
            middle = (low * high) ** 0.5
            low, high = middle / 10**0.5, middle * 10**0.5
        ax.set_ylim(low, high * (high / low) ** 0.3)  # room for the legend
        _marked(ax.yaxis, round_numbers(*ax.get_ylim()))
        _marked(ax.xaxis, sorted({size for line in lines for size in line.sizes}))
        ax.tick_params(labelsize=8)
        ax.set_title(name, loc="left", fontsize=10)
        ax.legend(frameon=False, fontsize=8, loc="upper left")
        ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    return figure


def _marked(axis: Any, numbers: Sequence[float]) -> None:
    """Ticks at these numbers of a logarithmic axis, and at no others."""
    axis.set_ticks(numbers, [f"{n:,.0f}" if n >= 1 else f"{n:.10g}" for n in numbers])
    axis.set_ticks([], minor=True)


def digits(value: float) -> str:
    """Three digits, or all before the point.

    >>> digits(1234.5), digits(12.345), digits(0.98765)
    ('1234', '12.3', '0.99')
    """
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
