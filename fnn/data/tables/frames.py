"""The columns of a frame of pandas or polars as arrays of NumPy, gaps marked."""

import datetime
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from fnn import arguments
from fnn.data.arrays import refuse_lazy, refuse_lists

ZONED = "zoned date"


class Values(NamedTuple):
    """A column: its kind, its values, and which of them are missing.

    The kind is "number", "date", "zoned date" (a date with its time zone) or "category".

    `of` says what it is made of: "number", "boolean", "date" or "text", whatever it counts as.

    Numbers are float64, dates `datetime64[us]` (those of a time zone in UTC), categories text.
    """

    kind: str
    values: np.ndarray
    missing: np.ndarray
    of: str


def names_of(name: str, frame: Any) -> list[str]:
    """The names of the columns of a frame, each once."""
    refuse_lazy(name, frame)
    columns = getattr(frame, "columns", None)
    if columns is None or callable(columns) or not (hasattr(frame, "iloc") or hasattr(frame, "get_columns")):
        got = arguments.describe_thing(frame)
        raise TypeError(f"{name}: expected a frame of pandas or polars, got {got}. Pass pandas.DataFrame(x).")
    names = [str(column) for column in columns]
    twice = sorted({column for column in names if names.count(column) > 1})
    if twice:
        raise ValueError(f"{name}: expected each column once, got {twice[0]!r} twice. Rename one of them.")
    if not len(frame):
        raise ValueError(f"{name}: expected at least one row, got none. Pass data.")
    return names


def read_column(name: str, frame: Any, column: str, as_category: bool = False) -> Values:
    """One column."""
    at = [str(label) for label in frame.columns].index(column)
    series = frame.iloc[:, at] if hasattr(frame, "iloc") else frame.get_column(frame.columns[at])
    refuse_lists(name, frame, column, series)
    missing = np.asarray((series.isna() if hasattr(series, "isna") else series.is_null()).to_numpy(), bool)
    values = np.asarray(series.to_numpy())
    where = f"{name}, column {column!r}"
    zoned = _has_zone(series, values[~missing])
    if values.dtype.kind == "O":
        values, missing = _objects(where, values, missing)
    of = {"b": "boolean", "M": "date", "U": "text", "T": "text"}.get(values.dtype.kind, "number")
    if as_category or str(series.dtype) == "category" or values.dtype.kind in "UT":
        return Values("category", _as_text(values, missing), missing, of)
    if values.dtype.kind == "M":
        kind = ZONED if zoned else "date"
        return Values(kind, values.astype("datetime64[us]"), missing | np.isnat(values), of)
    if values.dtype.kind not in "fiub":
        got = f"dtype {values.dtype}"
        raise TypeError(f"{where}: expected numbers, text, dates or booleans, got {got}. Convert it, or drop it.")
    numbers = values.astype(np.float64)
    missing = missing | np.isnan(numbers)
    if np.isinf(numbers).any():
        row = int(np.argmax(np.isinf(numbers)))
        raise ValueError(f"{where}: expected finite numbers or gaps, got {numbers[row]:g} in row {row}. Replace it.")
    return Values("number", numbers, missing, of)


def _has_zone(series: Any, values: np.ndarray) -> bool:
    """Whether dates have a time zone: of the column, or, where these are objects, of the first."""
    zones = [getattr(series.dtype, name, None) for name in ("tz", "time_zone")]
    of_first = getattr(values[0], "tzinfo", None) if values.dtype.kind == "O" and len(values) else None
    return any(zone is not None for zone in (*zones, of_first))


def _objects(where: str, values: np.ndarray, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Objects as text where they are text, as numbers or dates where they are these; gaps are filled."""
    there = [value for value, gone in zip(values, missing, strict=True) if not gone]
    kinds = {_kind(value) for value in there}
    if kinds == {"text"}:
        texts = ["" if gone else value for value, gone in zip(values, missing, strict=True)]
        return np.array(texts, dtype=str), missing
    if kinds == {"boolean"}:
        return np.array([not gone and bool(value) for value, gone in zip(values, missing, strict=True)]), missing
    if kinds <= {"number", "boolean"}:
        numbers = [np.nan if gone else float(value) for value, gone in zip(values, missing, strict=True)]
        return np.array(numbers, np.float64), missing
    if kinds in ({"date"}, {ZONED}):
        dates = ["NaT" if gone else _utc(value) for value, gone in zip(values, missing, strict=True)]
        return np.array(dates, "datetime64[us]"), missing
    row = next((i for i, value in enumerate(values) if not missing[i] and _kind(value) != _kind(there[0])), 0)
    got = " and ".join(sorted({type(value).__name__ for value in there}))
    if kinds == {"date", ZONED}:
        got = "dates with and without a time zone"
    raise TypeError(
        f"{where}: expected numbers, text, dates or booleans, all of one kind, got {got}; look at row {row}. "
        "Convert the column, such as frame[column].astype(str)."
    )


def _kind(value: object) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, (bool, np.bool_)):
        return "boolean"
    if isinstance(value, (int, float, np.number)):
        return "number"
    if not (hasattr(value, "isoformat") and hasattr(value, "year")):
        return "other"
    return "date" if getattr(value, "tzinfo", None) is None else ZONED


def _utc(value: Any) -> np.datetime64:
    if getattr(value, "tzinfo", None) is not None:
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    return np.datetime64(value, "us")


def _as_text(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Categories that are numbers by the text of the number: 3 and 3.0 are the same."""
    texts: Iterable[str] = (_number_text(v) if values.dtype.kind in "fiub" else str(v) for v in values.tolist())
    return np.array(["" if gone else text for text, gone in zip(texts, missing, strict=True)], dtype=str)


def _number_text(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else repr(number)
