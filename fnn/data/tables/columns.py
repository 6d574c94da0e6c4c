"""What is known of each column from the training rows, and how it becomes numbers.

Numbers are standardised; a gap becomes 0, the mean, and where there are gaps in the training rows one more column is 1
there. Dates become numbers: days since 1970, month, day of the week, hour. A category becomes its place among those of
the training rows, from 1 on; 0 is for what was not there.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fnn.data.tables.frames import Values

DAY = np.timedelta64(1, "D")
LARGE = 500  # powers of 2 from which on squares of numbers, added up, may be too large or too small for float64


class Numbers(NamedTuple):
    """A column of numbers, or the parts of a column of dates: means, deviations; whether gaps are shown."""

    name: str
    kind: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    gaps: bool

    @property
    def width(self) -> int:
        """How many columns it becomes."""
        return len(self.mean) + self.gaps


class Categories(NamedTuple):
    """A column of categories: the texts of the training rows, and whether a gap was one of them."""

    name: str
    texts: tuple[str, ...]
    gaps: bool

    @property
    def size(self) -> int:
        """How many places there are: one for the unseen, one each, one for gaps."""
        return 1 + len(self.texts) + self.gaps


Column = Numbers | Categories


def fit_column(name: str, column: Values) -> Column:
    """What the training rows say of a column."""
    gaps = bool(column.missing.any())
    if column.kind == "category":
        return Categories(name, tuple(sorted(set(column.values[~column.missing].tolist()))), gaps)
    parts = _parts(column)
    mean, deviation = zip(*(moments(part[~column.missing]) for part in parts), strict=True)
    return Numbers(name, column.kind, mean, deviation, gaps)


def fit_like(known: Column, column: Values) -> Column:
    """What other rows say of a column, in the room that `known` has: nothing of it takes more places or numbers."""
    found = fit_column(known.name, column)
    gaps = found.gaps and known.gaps
    if isinstance(found, Categories) and isinstance(known, Categories):
        there = set(known.texts)
        return Categories(known.name, tuple(text for text in found.texts if text in there), gaps)
    return found._replace(gaps=gaps)


def moments(numbers: np.ndarray) -> tuple[float, float]:
    """Mean and deviation; 1 is the deviation of numbers that are all the same, and of none."""
    if not numbers.size or (numbers == numbers[0]).all():  # rounding may leave such numbers a deviation above 0
        return (float(numbers[0]) if numbers.size else 0.0), 1.0
    power = int(np.frexp(np.abs(numbers).max())[1])
    power = power if abs(power) > LARGE else 0
    scaled = np.ldexp(numbers, -power)
    mean, deviation = np.ldexp([scaled.mean(), scaled.std()], power).tolist()
    return mean, deviation or 1.0


def as_inputs(columns: Sequence[Column], values: Sequence[Values], room: Sequence[Column]) -> dict[str, Any]:
    """Inputs of a network: the numbers of all columns side by side, and the places of each column of categories.

    `room`: these columns as the network knows them; where one shows gaps and its column here does not, 0 stands.
    """
    numbers, categories = [], {}
    for known, column, wide in zip(columns, values, room, strict=True):
        if isinstance(known, Categories):
            categories[known.name] = as_places(known, column)
        elif isinstance(wide, Numbers):
            numbers.append(np.pad(as_numbers(known, column), ((0, 0), (0, wide.width - known.width))))
    x: dict[str, Any] = {"numbers": np.concatenate(numbers, 1)} if numbers else {}
    return x | ({"categories": categories} if categories else {})


def as_numbers(known: Numbers, column: Values) -> np.ndarray:
    """Rows of `known.width` numbers."""
    parts = [
        np.where(column.missing, 0.0, (part - mean) / deviation)
        for part, mean, deviation in zip(_parts(column), known.mean, known.deviation, strict=True)
    ]
    return np.stack([*parts, *([column.missing.astype(float)] if known.gaps else [])], 1).astype(np.float32)


def as_places(known: Categories, column: Values) -> np.ndarray:
    """The place of each row's category, `(rows, 1)`."""
    places = {text: i for i, text in enumerate(known.texts, 1)}
    found = np.array([places.get(text, 0) for text in column.values.tolist()], np.int32)
    gap = known.size - 1 if known.gaps else 0
    return np.where(column.missing, gap, found)[:, None].astype(np.int32)


def _parts(column: Values) -> list[np.ndarray]:
    """The numbers that a column is made of; what they are in gaps does not count."""
    if column.kind == "number":
        return [np.where(column.missing, 0.0, column.values)]
    when = np.where(column.missing, np.datetime64(0, "us"), column.values)
    days = when.astype("datetime64[D]")
    hours: Any = (when - days) / np.timedelta64(1, "h")
    since = (days - np.datetime64(0, "D")) / DAY
    month = when.astype("datetime64[M]").astype(int) % 12
    return [since + hours / 24, month.astype(float), (since + 3) % 7, hours]  # 1 January 1970 was a Thursday
