"""A table as text and as HTML: one line per column, what it is, and what is known of it."""

from collections.abc import Sequence

from fnn.data.tables.columns import Categories, Column
from fnn.data.tables.targets import Target

HEAD = "column", "kind", "from the training rows"
MOST_NAMES = 5  # that are shown of categories and classes


def lines(columns: Sequence[Column], targets: Sequence[Target]) -> list[tuple[str, str, str]]:
    """A line per column, then one per target.

    >>> from fnn.data.tables.columns import Categories, Numbers
    >>> from fnn.data.tables.shown import lines
    >>> lines([Numbers("area", "number", (80.0,), (25.0,), False), Categories("town", ("Bern", "Ulm"), True)], [])
    [('area', 'number', 'mean 80, deviation 25'), ('town', 'category', '2: Bern, Ulm; gaps')]
    """
    return [*map(_column, columns), *map(_target, targets)]


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """The lines below their head, in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, HEAD, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in (HEAD, *rows))


def _column(column: Column) -> tuple[str, str, str]:
    gaps = "; gaps" if column.gaps else ""
    if isinstance(column, Categories):
        return column.name, "category", f"{_names(column.texts)}{gaps}"
    if len(column.mean) == 1:
        return column.name, column.kind, f"{_moments(column.mean[0], column.deviation[0])}{gaps}"
    return column.name, column.kind, f"{len(column.mean)} numbers{gaps}"


def _target(target: Target) -> tuple[str, str, str]:
    if target.classes is not None:
        return target.name, "target, class", _names(target.classes)
    of = " of the logarithm" if target.log else ""
    return target.name, "target, number", f"{_moments(target.mean, target.deviation)}{of}"


def _names(texts: Sequence[str]) -> str:
    more = ", …" if len(texts) > MOST_NAMES else ""
    return f"{len(texts)}: {', '.join(texts[:MOST_NAMES])}{more}"


def _moments(mean: float, deviation: float) -> str:
    return f"mean {mean:.4g}, deviation {deviation:.4g}"
