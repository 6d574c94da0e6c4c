"""Pictures of what a study found: a figure of its table against its settings, as a curve or as a heat map."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from fnn.plots.axes import (
    INK,
    LINE_COLOURS,
    SPAN,
    Axes,
    Figure,
    axes,
    finish,
    format_short,
    needs_log_scale,
    number,
    places_of,
    round_numbers,
    scale,
    ticks,
)
from fnn.plots.study_cells import (
    StudyCell,
    StudyColumns,
    choose_axes,
    columns_of,
    join_values,
    mean_over,
    monitor_text,
    readable,
    summarise,
    varying_settings,
)

CURVE, MARK = LINE_COLOURS[:2]
NOTHING = (0.93, 0.93, 0.93, 1.0)  # the colour of a cell without a number
Shades = Any  # a ScalarMappable of matplotlib
Cells = dict[tuple[int, int], StudyCell]  # which value of x, which of y -> what is shown there


def sweep(
    found: Any, x: str | None = None, y: str | None = None, *, figure: str | None = None, ax: Axes | None = None
) -> Figure:
    """Which settings do how well: a curve over one setting, a heat map over two.

    The curve is the mean over all members that share the value of the setting. Its band is one standard deviation over
    the folds to each side, for a cross-validation over this setting alone; else it reaches from the lowest to the
    highest of the members: over seeds, and over the settings that are not drawn. The legend says which.

    The heat map has the number in each cell, darker where it is better: the mean over folds and seeds, for the best of
    the settings that are not drawn (the label says so); ± one standard deviation over the folds. Cells have one size,
    whatever the values; a cost that exploded is beyond the end of the colours. Where more than half of the cells would
    be empty, as with `fnn.draws`, the members are drawn as points at their values instead.

    The best mean is marked. Members that diverged are in no mean: crosses stand for them, which on a curve have no
    height, with their number where not all of one did. Values that span more than a factor of 50 have a logarithmic
    axis; a 0 among them has its place too.

    Args:
        found: what `fnn.sweep` or `fnn.cross_validate` returned.
        x: the setting to the right; None: the only one, or the first of two (seeds apart).
        y: the setting upwards, for a heat map; None: the second of two, if x is None too.
        figure: the column of the table to draw; None: the one that judged. Best is always by the one that judged.
        ax: draw here.

    Returns:
        The matplotlib figure.

    Raises:
        TypeError: `found` is no such result.
        ValueError: it has no settings; `x`, `y` or `figure` is none of its names; or x is needed.

    >>> import fnn, numpy as np, optax
    >>> from fnn import plots
    >>> x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    >>> found = fnn.sweep(fnn.serial(fnn.dense(1)), fnn.losses.squared_error, lambda s: optax.sgd(s["lr"]), (x, 3 * x),
    ...                   over={"lr": [0.001, 0.01, 0.5]}, epochs=100, batch_size=16)
    >>> ax = plots.sweep(found).axes[0]
    >>> ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()
    ('lr', 'loss', 'log')
    """
    members = columns_of(found, figure)
    names = choose_axes(list(members.settings), x, y)
    return _curve(members, names[0], ax) if len(names) == 1 else _heat_map(members, names, ax)


# ---- a curve


def _curve(members: StudyColumns, x: str, ax: Axes | None) -> Figure:
    """Mean, band, best, and what has no value."""
    figure, ax = axes(ax)
    places, kind = np.unique(members.settings[x], return_inverse=True)
    alike = [np.flatnonzero(kind == k) for k in range(len(places))]
    whole = [at[np.isfinite(members.scores[at])] for at in alike]
    mean, low, high, score = (
        np.array([of(v[at]) if len(at) else np.nan for at in whole])
        for of, v in [(f, members.values) for f in (np.mean, np.min, np.max)] + [(np.mean, members.scores)]
    )
    over = varying_settings(members, (x,))
    band = "lowest to highest"
    if members.deviation is not None and all(len(at) == 1 for at in alike):
        deviation = np.array([members.deviation[at[0]] for at in alike])
        low, high, band = mean - deviation, mean + deviation, "± one standard deviation over the folds"
    there = np.isfinite(score)
    if there.any():
        label = mean_over(members, over) or readable(members.figure)
        ax.plot(places[there], mean[there], "o-", color=CURVE, markersize=4, label=label)
        if (high > low).any():
            ax.fill_between(places[there], low[there], high[there], color=CURVE, alpha=0.15, linewidth=0, label=band)
        best = int(np.nanargmin(score))
        label = (
            f"best{' mean' * bool(over)}{monitor_text(members)}: {mean[best]:.4g} at {x} = {format_short(places)[best]}"
        )
        ax.plot(places[best], mean[best], "o", color=MARK, markersize=9, markerfacecolor="none", label=label)
        scale(ax, "y", mean)
    else:
        ax.set_yticks([])
    scale(ax, "x", places)
    ticks(ax.xaxis, places)
    _without_value(members, ax, [(place, summarise(members, at)) for place, at in zip(places, alike, strict=True)])
    ax.set(xlabel=x, ylabel=readable(members.figure))
    return finish(figure, ax, columns=2)


def _without_value(members: StudyColumns, ax: Axes, cells: list[tuple[Any, StudyCell]]) -> None:
    """Crosses for what diverged, dashes for what has not run, at the bad end of the axis."""
    edge, away = (0.04, 0.05) if members.mode == "max" and members.shows_monitor else (0.96, -0.05)
    height = ax.get_xaxis_transform()
    for marker, label, at in (
        ("x", "diverged: no value", [place for place, cell in cells if cell.diverged]),
        ("_", "not run", [place for place, cell in cells if not cell.has_value and not cell.diverged]),
    ):
        if at:
            ax.plot(at, [edge] * len(at), marker, color=MARK, markersize=7, transform=height, label=label)
    for place, cell in cells:
        if cell.diverged and cell.runs > 1:
            text = f"{cell.diverged} of {cell.runs}"
            ax.text(place, edge + away, text, fontsize=7, ha="center", va="center", transform=height)


# ---- a heat map


def _heat_map(members: StudyColumns, names: Sequence[str], ax: Axes | None) -> Figure:
    """A cell for each pair of values; or points, where most pairs have no member."""
    (across, i), (up, j) = (np.unique(members.settings[name], return_inverse=True) for name in names)
    pairs = sorted(set(zip(i.tolist(), j.tolist(), strict=True)))
    cells = {pair: summarise(members, np.flatnonzero((i == pair[0]) & (j == pair[1]))) for pair in pairs}
    filled = 2 * len(cells) >= len(across) * len(up)
    size = (min(16.0, max(5.6, 2 + 0.75 * len(across))), min(16.0, max(4.4, 1.5 + 0.55 * len(up))))
    figure, ax = axes(ax, size=size if filled else (5.6, 4.4))
    shades = _shades(members, cells)
    if filled:
        _squares(ax, cells, (across, up), shades)
    else:
        _dots(ax, cells, (across, up), shades)
    _best(members, ax, cells, (across, up), filled)
    if len(_values(cells)):
        bar = figure.colorbar(shades, ax=ax, extend="max" if _values(cells).max() > shades.norm.vmax else "neither")
        bar.set_label(textwrap.fill(_numbers(members, names), 44))
        bar.ax.tick_params(labelsize="small")
        if bar.ax.get_yscale() == "log":
            bar.set_ticks(at := round_numbers(*shades.get_clim()), labels=format_short(at), minor=False)
            bar.minorticks_off()
    ax.set(xlabel=names[0], ylabel=names[1])
    return finish(figure, ax, columns=2, over=True)


def _numbers(members: StudyColumns, names: Sequence[str]) -> str:
    """What the numbers are."""
    free = varying_settings(members, names)
    mean, others = mean_over(members, [n for n in free if n == "seed"]), [n for n in free if n != "seed"]
    best = f", best over {join_values(others)}{monitor_text(members)}" if others else ""
    return readable(members.figure) + (f", {mean}" if mean else "") + best


def _values(cells: Cells) -> np.ndarray:
    """All numbers that are shown."""
    return np.array([cell.value for cell in cells.values() if np.isfinite(cell.value)])


def _shades(members: StudyColumns, cells: Cells) -> Shades:
    """From numbers to colours, the darker the better."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize

    values = _values(cells)
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    pad = 0.0 if high > low else abs(low) / 100 or 0.01  # a single number has a colour too
    wide = len(values) and low > 0 and needs_log_scale(values)
    smaller = members.shows_monitor and members.mode == "min"
    if wide and smaller:  # a cost that exploded would leave one colour for all others
        high = min(high, max(SPAN * low, 10 * float(np.median(values))))
    return ScalarMappable((LogNorm if wide else Normalize)(low - pad, high + pad), "Blues_r" if smaller else "Blues")


def _squares(ax: Axes, cells: Cells, values: tuple[np.ndarray, np.ndarray], shades: Shades) -> None:
    """All of one size, with what is written in them."""
    columns, rows = map(len, values)
    image = np.ones((rows, columns, 4))
    points = ax.get_window_extent().width / ax.figure.dpi * 72 / columns
    places = places_of(_values(cells))
    for (a, b), cell in cells.items():
        image[b, a] = shades.to_rgba(cell.value) if np.isfinite(cell.value) else NOTHING
        light = image[b, a, :3] @ (0.299, 0.587, 0.114) > 0.55
        lines = [number(cell.value, places)] if np.isfinite(cell.value) else [] if cell.diverged else ["–"]
        lines += [] if cell.deviation is None else [f"± {number(cell.deviation, places)}"]
        lines += [f"× {cell.diverged} of {cell.runs}" if cell.runs > 1 else "×"] if cell.diverged else []
        style: dict[str, Any] = {"fontsize": max(3.0, min(8.0, points / 4.5)), "linespacing": 1.3}
        ax.text(a, b, "\n".join(lines), ha="center", va="center", color=INK if light else "white", **style)
    ax.imshow(image, origin="lower", aspect="auto")
    texts = format_short(values[0])
    ax.set_xticks(range(columns), texts, rotation=90 if columns * max(map(len, texts)) > 80 else 0)
    ax.set_yticks(range(rows), format_short(values[1]))


def _dots(ax: Axes, cells: Cells, values: tuple[np.ndarray, np.ndarray], shades: Shades) -> None:
    """Each where its values are."""
    for kind, name in zip(values, "xy", strict=True):
        scale(ax, name, kind)
    for (a, b), cell in cells.items():
        if np.isfinite(cell.value):
            style: dict[str, Any] = {"markersize": 8, "markeredgecolor": INK, "markeredgewidth": 0.5}
            ax.plot(values[0][a], values[1][b], "o", markerfacecolor=shades.to_rgba(cell.value), **style)


def _best(members: StudyColumns, ax: Axes, cells: Cells, values: tuple[np.ndarray, np.ndarray], filled: bool) -> None:
    """The best one's frame; what crosses and dashes mean, which stand as text in squares, as marks between dots."""
    from matplotlib.patches import Rectangle

    (a, b), best = min(cells.items(), key=lambda item: (item[1].score, item[1].member))
    if best.has_value:
        own = {name: format_short(v[best.member : best.member + 1])[0] for name, v in members.settings.items()}
        which = ", ".join(f"{name} = {value}" for name, value in own.items() if name != "seed")
        label = f"best{monitor_text(members)}: {best.value:.4g} at {which}"
        if filled:
            ax.add_patch(Rectangle((a - 0.5, b - 0.5), 1, 1, fill=False, ec=MARK, lw=2.5, zorder=3, label=label))
        else:
            style: dict[str, Any] = {"markersize": 12, "markerfacecolor": "none", "markeredgewidth": 2}
            ax.plot(values[0][a], values[1][b], "o", color=MARK, label=label, **style)
    for marker, label, pairs in (
        ("x", "diverged", [pair for pair, cell in cells.items() if cell.diverged]),
        ("_", "not run", [pair for pair, cell in cells.items() if not cell.has_value and not cell.diverged]),
    ):
        at = [] if filled else [(values[0][a], values[1][b]) for a, b in pairs]
        if pairs:
            xs, ys = zip(*at, strict=True) if at else ((), ())
            ax.plot(xs, ys, marker, color=INK if filled else MARK, label=label)
