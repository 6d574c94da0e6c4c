"""What all pictures share: matplotlib, imported on use; axes and their scales, colours, a quiet finish."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fnn.arguments import describe_thing

Axes = Any  # of matplotlib, which is imported late and without types
Figure = Any  # likewise
LINE_COLOURS = ("#1f3a4d", "#c8553d", "#7a8b3c", "#8a6bab", "#c99a2e", "#5a7d9a")
INK = "#333333"
SPAN = 50  # numbers above 0 that span more than this factor are drawn on a logarithmic scale


def axes(ax: Axes | None, projection: str | None = None, size: tuple[float, float] = (5.6, 4.4)) -> tuple[Any, Any]:
    """The figure and the axes to draw on: those given, else new ones of this size in inches."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise ImportError('plots: matplotlib is not installed. Run: pip install "fnn[plots]"') from None
    if ax is not None:
        if isinstance(ax, type) or not hasattr(ax, "plot") or not hasattr(ax, "figure"):
            got, hint = describe_thing(ax), "Pass one of plt.subplots(), or leave it out."
            raise TypeError(f"ax: expected axes of matplotlib, got {got}. {hint}")
        if projection == "3d" and ax.name != "3d":
            raise TypeError("ax: expected axes with projection='3d', got flat ones. Add it to plt.subplot(…).")
        return ax.figure, ax
    from fnn.plots.figure import ShownFigure

    figure = ShownFigure(figsize=size, layout="constrained")
    return figure, figure.add_subplot(projection=projection)


def finish(figure: Figure, ax: Axes, columns: int = 3, over: bool | None = None) -> Figure:
    """What every picture has: a legend, over the axes where rows could be beneath it, and quiet axes."""
    over = bool(ax.collections) if over is None else over
    above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": columns} if over else {}
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize="small", **above)
    ax.tick_params(labelsize="small")
    if ax.name != "3d":
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def needs_log_scale(values: np.ndarray) -> bool:
    """Whether numbers of at least 0 are easier to distinguish on a logarithmic scale.

    >>> import numpy as np
    >>> from fnn.plots.axes import needs_log_scale
    >>> [needs_log_scale(np.array(values)) for values in ([0.001, 1.0], [0.1, 1.0], [-1.0, 0.001, 1.0])]
    [True, False, False]
    """
    above = values[values > 0]
    return bool(len(above) and values.min() >= 0 and above.max() > SPAN * above.min())


def scale(ax: Axes, axis: str, values: np.ndarray) -> None:
    """A logarithmic axis "x" or "y" for numbers far apart; where 0 is one of them, it and the next are joined linearly.

    Numbers that are not finite do not count.
    """
    values = values[np.isfinite(values)]
    if needs_log_scale(values):
        whole = values.min() > 0
        more = {} if whole else {"linthresh": float(values[values > 0].min())}
        getattr(ax, f"set_{axis}scale")("log" if whole else "symlog", **more)


def ticks(axis: Axes, values: np.ndarray) -> None:
    """Ticks at these very numbers, ascending, where they are not too close together to be read."""
    places = axis.get_transform().transform(np.asarray(values, float))
    if len(places) == 1 or np.diff(places).min() > 0.08 * np.ptp(places):
        axis.set_ticks(values, format_short(values))
        axis.set_ticks([], minor=True)


def format_short(values: np.ndarray | Sequence[float]) -> list[str]:
    """Numbers in as few digits, from 3, as tell them apart.

    >>> from fnn.plots.axes import format_short
    >>> format_short([0.1, 0.00031622]), format_short([0.1234, 0.1235]), format_short([8, 1024])
    (['0.1', '0.000316'], ['0.1234', '0.1235'], ['8', '1024'])
    """
    values = np.asarray(values).tolist()
    for digits in range(3, 17):
        texts = [str(v) if isinstance(v, int) else f"{v:.{digits}g}" for v in values]
        if len(set(texts)) == len(set(values)):
            return texts
    return [repr(v) for v in values]


def places_of(values: np.ndarray) -> int:
    """How many digits after the point numbers need that stand beside each other: 4 digits of the median.

    >>> import numpy as np
    >>> from fnn.plots.axes import places_of
    >>> places_of(np.array([0.97, 0.9612])), places_of(np.array([0.1, 12.5, 1e9])), places_of(np.array([]))
    (4, 2, 3)
    """
    sizes = np.abs(values[values != 0])
    return int(np.clip(3 - np.floor(np.log10(np.median(sizes))), 0, 9)) if len(sizes) else 3


def number(value: float, places: int) -> str:
    """A number with so many digits after the point; one that is much larger or smaller with 3 or 4 digits of its own.

    >>> from fnn.plots.axes import number
    >>> number(0.12345, 4), number(0.00012345, 4), number(1234.5, 4), number(1.2345e12, 4)
    ('0.1235', '0.000123', '1234', '1.23e+12')
    """
    size = abs(value)
    if size == 0 or 10.0 ** (1 - places) <= size < 10.0 ** (5 - places):
        return f"{value:.{places}f}"
    return f"{value:.4g}" if 1 <= size < 1e4 else f"{value:.3g}"


def round_numbers(low: float, high: float) -> list[float]:
    """Ticks for a logarithmic scale: 1, 2 and 5 times powers of ten, or where it is long the powers alone.

    >>> from fnn.plots.axes import round_numbers
    >>> round_numbers(0.15, 3), round_numbers(0.9, 1200)
    ([0.2, 0.5, 1.0, 2.0], [1.0, 10.0, 100.0, 1000.0])
    """
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    step = -(-len(powers) // 10)
    steps = (1, 2, 5) if len(powers) <= 4 else (1,)
    found = [float(f"{digit}e{power}") for power in powers[::step] for digit in steps]
    return [value for value in found if low <= value <= high]
