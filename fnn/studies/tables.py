"""A table of numbers with names: what a study found, a row a member. Printed, sorted, written to a file."""

import csv
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fnn import arguments
from fnn.data import checks
from fnn.runs import history_columns, markup
from fnn.types import PathLike

Columns = Mapping[str, Any]  # name -> one value per row, NumPy


# ---- the names of all columns


def study_columns(metrics: Iterable[str], validates: bool, deviations: bool = False) -> list[str]:
    """Those of a study's table beside the settings; with `deviations` each figure has one more, with `_std`."""
    names = history_columns(metrics, validates)
    return [*names, *(f"{name}_std" for name in names[1:] if deviations), "epochs", "diverged"]


# ---- what is done with a table


def argsort(columns: Columns, by: str, largest: bool = False, last: Any = False) -> np.ndarray:
    """The places of the rows, best first; NaN last, and behind it those marked `last`. Equal ones stay in their order.

    >>> import numpy as np
    >>> from fnn.studies.tables import argsort
    >>> print(argsort({"loss": np.array([0.3, np.nan, 0.1])}, "loss"))
    [2 0 1]
    """
    if not isinstance(by, str) or by not in columns:
        got = arguments.describe_value(by)
        raise ValueError(f"by: expected one of {', '.join(columns)}, got {got}. Name a column.")
    largest = arguments.flag("largest", largest)
    values = np.asarray(columns[by], float)
    order = np.argsort(-values if largest else values, kind="stable")
    return order[np.argsort(np.broadcast_to(last, values.shape)[order], kind="stable")]


def rows(columns: Columns, order: Any) -> list[dict[str, Any]]:
    """The rows in that order, as dicts of Python's numbers."""
    return [{name: values[i].item() for name, values in columns.items()} for i in order]


def format_table(columns: Columns, order: Any, most: int = 20) -> str:
    """The first rows in that order, as text.

    >>> import numpy as np
    >>> from fnn.studies.tables import format_table
    >>> print(format_table({"lr": np.array([0.1, 1.0]), "loss": np.array([0.25, np.nan])}, [0, 1]))
       lr   loss
      0.1   0.25
        1    nan
    """
    body, left = _cells(columns, order, most)
    lines = [list(columns), *body]
    widths = [max(5, *map(len, column)) for column in zip(*lines, strict=True)]
    text = "\n".join("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in lines)
    return f"{text}\n{left}" if left else text


def format_html(columns: Columns, order: Any, most: int = 20) -> str:
    """The same for a notebook."""
    body, left = _cells(columns, order, most)
    return markup.table(body, list(columns), left)


def _cells(columns: Columns, order: Any, most: int) -> tuple[list[list[str]], str]:
    """The first rows in that order, as texts; and a line that says how many more there are, if there are."""
    places = list(order)
    left = len(places) - most
    body = [[_cell(values[i]) for values in columns.values()] for i in places[:most]]
    return body, f"and {left} more" if left > 0 else ""


def _cell(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else ""
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)


def to_csv(columns: Columns, path: PathLike) -> None:
    """Write all rows, in their own order, with all digits."""
    with open(checks.path("path", path), "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(np.asarray(values).tolist() for values in columns.values()), strict=True))
