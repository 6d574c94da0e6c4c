"""Tables and curves as HTML, for a notebook."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT = 320, 90  # of a curve, in pixels
MOST_POINTS = 320  # of a curve: what lies closer together cannot be seen
COLOURS = "#1f77b4", "#ff7f0e"


def table(rows: Iterable[Sequence[str]], head: Sequence[str] = (), note: str = "") -> str:
    """A table of texts; `note` is a line below it.

    >>> from fnn.runs.markup import table
    >>> print(table([["dense(3)", "<4>"]], ["layer", "output"]))
    <table><thead><tr><th>layer</th><th>output</th></tr></thead><tbody><tr><td>dense(3)</td><td>&lt;4&gt;</td></tr></tbody></table>
    """
    top = f"<thead>{_row('th', head)}</thead>" if head else ""
    body = "".join(_row("td", row) for row in rows)
    return f"<table>{top}<tbody>{body}</tbody></table>" + (f"<p>{escape(note)}</p>" if note else "")


def _row(kind: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in cells) + "</tr>"


def curves(figures: Mapping[str, np.ndarray]) -> str:
    """A picture with one line per figure, at most two, over the epochs; all have one scale.

    The scale is logarithmic where all values are above 0. Empty where no figure has two finite values.

    >>> import numpy as np
    >>> from fnn.runs.markup import curves
    >>> print(curves({"loss": np.array([1.0, 0.1])})[:46], curves({"loss": np.array([1.0])}) == "")
    <svg width="320" height="106" role="img" xmlns True
    """
    lines = {name: np.asarray(values, float) for name, values in figures.items()}
    lines = {name: values for name, values in lines.items() if np.isfinite(values).sum() > 1}
    if not lines:
        return ""
    every = np.concatenate([values[np.isfinite(values)] for values in lines.values()])
    scale = "log" if (every > 0).all() else "linear"
    if scale == "log":
        with np.errstate(invalid="ignore"):  # of minus infinity, which is not drawn
            every, lines = np.log10(every), {name: np.log10(values) for name, values in lines.items()}
    low, high = every.min(), max(every.max(), every.min() + 1e-12)
    drawn, words = "", []
    for colour, (name, values) in zip(COLOURS, lines.items(), strict=False):
        drawn += f'<polyline fill="none" stroke="{colour}" points="{_points(values, low, high)}"/>'
        words.append(f'<tspan fill="{colour}">{escape(name)}</tspan>')
    below = f"{', '.join(words)} per epoch, {scale} scale"
    text = f'<text x="0" y="{HEIGHT + 13}" font-size="12" fill="currentColor">{below}</text>'
    size = f'width="{WIDTH}" height="{HEIGHT + 16}" role="img" xmlns="http://www.w3.org/2000/svg"'
    return f"<svg {size}>{drawn}{text}</svg>"


def _points(values: np.ndarray, low: float, high: float) -> str:
    """The places of a curve's points, those that are finite."""
    at = np.unique(np.linspace(0, len(values) - 1, min(len(values), MOST_POINTS)).astype(int))
    at = at[np.isfinite(values[at])]
    across = at / (len(values) - 1) * (WIDTH - 2) + 1
    down = (high - values[at]) / (high - low) * (HEIGHT - 2) + 1
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
