"""What a study says of its settings: a figure of its table for each value, or pair of values, of some of them.

Seeds and folds are averaged over; of the settings that are not asked for the best are taken. Needs no more than
`points`, `table`, `monitor` and `mode`, which what `fnn.sweep` and `fnn.cross_validate` return have.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fnn.arguments import describe_value


class StudyColumns(NamedTuple):
    """A study, one value per member."""

    settings: dict[str, np.ndarray]
    figure: str  # the column that is looked at
    values: np.ndarray  # of the figure
    scores: np.ndarray  # by what judged, smaller is better; inf: diverged, or has not run
    deviation: np.ndarray | None  # of the figure over the folds
    diverged: np.ndarray  # in how many folds
    folds: int | None  # None: no cross-validation
    monitor: str  # the column that tells which is best
    mode: str  # "min" or "max"

    @property
    def shows_monitor(self) -> bool:
        """Whether the figure is the one that tells the best."""
        return self.figure == self.monitor


class StudyCell(NamedTuple):
    """What there is to say of members that share some settings."""

    value: float  # NaN: all diverged, or have not run
    score: float
    deviation: float | None
    member: int  # one of those that `value` is of
    diverged: int
    runs: int

    @property
    def has_value(self) -> bool:
        """Whether any of them trained to the end."""
        return bool(np.isfinite(self.score))


def columns_of(found: Any, figure: str | None) -> StudyColumns:
    """What `fnn.sweep` or `fnn.cross_validate` returned; `figure`: a column of its table, None: the one that judged.

    Raises:
        TypeError: it is no such thing.
        ValueError: it has no settings, or no such figure.
    """
    if isinstance(found, type) or not all(hasattr(found, name) for name in ("points", "table", "monitor", "mode")):
        got = type(found).__name__
        raise TypeError(
            f"found: expected what fnn.sweep or fnn.cross_validate returns, got {got}. Pass the whole of it."
        )
    names, table = list(found.points[0]), found.table
    if not names:
        raise ValueError("found: expected settings to choose from, got none. Pass over={'lr': [0.1, 0.2]} to it.")
    figures = [name for name in table if name not in (*names, "diverged") and not _is_deviation(name, table)]
    figure = found.monitor if figure is None else figure
    if not isinstance(figure, str) or figure not in figures:
        got = describe_value(figure)
        raise ValueError(f"figure: expected one of {', '.join(figures)}, got {got}. Name a column.")
    judged, diverged = np.asarray(table[found.monitor], float), np.asarray(table["diverged"]).astype(int)
    return StudyColumns(
        settings={name: np.asarray(table[name]) for name in names},
        figure=figure,
        values=np.asarray(table[figure], float),
        scores=np.where(np.isfinite(judged) & (diverged == 0), -judged if found.mode == "max" else judged, np.inf),
        deviation=table.get(f"{figure}_std"),
        diverged=diverged,
        folds=len(found.folds) if hasattr(found, "folds") else None,
        monitor=found.monitor,
        mode=found.mode,
    )


def _is_deviation(name: str, table: Mapping[str, np.ndarray]) -> bool:
    return name.endswith("_std") and name.removesuffix("_std") in table


def choose_axes(settings: list[str], x: str | None, y: str | None) -> list[str]:
    """The one or two settings that are looked at: those named, else all there are, seeds apart.

    >>> from fnn.plots.study_cells import choose_axes
    >>> choose_axes(["lr", "l2", "seed"], None, None)
    ['lr', 'l2']
    """
    for name, value in (("x", x), ("y", y)):
        if value is not None and (not isinstance(value, str) or value not in settings):
            got = describe_value(value)
            raise ValueError(f"{name}: expected one of {', '.join(settings)}, got {got}. Name a setting.")
    if x is not None and x == y:
        raise ValueError(f"y: expected another setting than x, got {y!r} for both. Leave y out for a curve.")
    if x is not None:
        return [x] if y is None else [x, y]
    free = [name for name in settings if name != "seed"] or settings
    if y is not None or len(free) > 2:
        raise ValueError(f"x: expected one of {', '.join(settings)}, got None. Say which, and y for a heat map.")
    return free


def summarise(members: StudyColumns, at: np.ndarray) -> StudyCell:
    """The best of the members `at`, those that differ in the seed alone taken together; the first of equal ones."""
    others = [values[at] for name, values in members.settings.items() if name != "seed"] or [np.zeros(len(at))]
    kind = np.unique(np.stack(others, 1), axis=0, return_inverse=True)[1].ravel()
    diverged, runs = int(members.diverged[at].sum()), len(at) * (members.folds or 1)
    best = StudyCell(np.nan, np.inf, None, int(at[0]), diverged, runs)
    for k in dict.fromkeys(kind.tolist()):  # in the order asked for
        alike = at[(kind == k) & np.isfinite(members.scores[at])]
        if len(alike) and (score := float(members.scores[alike].mean())) < best.score:
            deviation = (
                float(members.deviation[alike[0]]) if members.deviation is not None and len(alike) == 1 else None
            )
            best = StudyCell(float(members.values[alike].mean()), score, deviation, int(alike[0]), diverged, runs)
    return best


# ---- in words


def readable(name: str) -> str:
    """A column's name, to be read."""
    return name.replace("_", " ")


def monitor_text(members: StudyColumns) -> str:
    """What tells the best, where that is not what is shown."""
    return "" if members.shows_monitor else f" by {readable(members.monitor)}"


def varying_settings(members: StudyColumns, but: Sequence[str]) -> list[str]:
    """The other settings that have more than one value."""
    return [name for name, values in members.settings.items() if name not in but and len(np.unique(values)) > 1]


def mean_over(members: StudyColumns, names: list[str]) -> str:
    """What a mean is over: the folds, if there are any, and these settings. Empty: over nothing."""
    counts = {name: len(np.unique(members.settings[name])) for name in names}
    parts = [f"{members.folds} folds"] if members.folds else []
    parts += [f"{count} seeds" if name == "seed" else f"{count} values of {name}" for name, count in counts.items()]
    return f"mean over {join_values(parts)}" if parts else ""


def join_values(names: list[str]) -> str:
    """One or several, the last with "and".

    >>> from fnn.plots.study_cells import join_values
    >>> join_values(["5 folds", "3 seeds", "l2"])
    '5 folds, 3 seeds and l2'
    """
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), *names[-1:]])
