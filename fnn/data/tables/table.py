"""All of it together: fitted once, applied to any frame, kept in a file."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fnn import arguments, losses
from fnn.data import checks
from fnn.data.tables.columns import Categories, Column, Numbers, as_numbers, as_places, fit_column
from fnn.data.tables.frames import names_of, read_column
from fnn.data.tables.targets import Target, as_target, fit_target
from fnn.types import Loss, PathLike, ShapeError, Tree

Names = str | Sequence[str]
FORMAT = "fnn table 1"


class Table(NamedTuple):
    """How frames become arrays for a network: `Table.fit` finds it in the training rows.

    - `columns`: what is known of each column; `targets`: of each target, one or several.
    - `one`: whether there is one target, so that targets and outputs are an array and no dict.
    """

    columns: tuple[Column, ...]
    targets: tuple[Target, ...]
    one: bool

    @classmethod
    def fit(cls, frame: Any, *, target: Names, categories: Names = (), leave_out: Names = ()) -> "Table":
        """Look at the training rows, and at no others: their means, their categories, where they have gaps.

        Numbers are standardised, and where a column has gaps another says which rows; booleans are 0 and 1, dates
        become days, month, day of the week and hour; text, and what is named in `categories`, becomes a place among
        the texts of the training rows, with one place for what was not there.

        Args:
            frame: of pandas or polars, the training rows with the target.
            target: the name of the column to predict, or a list of names. Text and booleans are classes, and so is
                what is named in `categories`; other numbers are standardised, skewed ones by their logarithm.
            categories: columns of numbers that are names, such as codes.
            leave_out: columns that are not inputs.

        Raises:
            ValueError: a column is not there or there twice; a target has gaps or one class; a number is infinite.
            TypeError: this is no frame, or a column is neither of numbers, text, dates nor booleans.

        >>> import fnn, pandas
        >>> frame = pandas.DataFrame({"area": [50, None, 90], "town": ["Ulm", "Bonn", "Ulm"], "price": [1e5, 2e5, 3e5]})
        >>> table = fnn.Table.fit(frame, target="price")
        >>> x, t = table(frame)
        >>> print({"numbers": x["numbers"].tolist(), "town": x["categories"]["town"].ravel().tolist()})
        {'numbers': [[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], 'town': [2, 1, 2]}
        """
        targets, forced, left = (
            _known_names(what, value, names_of("Table.fit", frame))
            for what, value in (("target", target), ("categories", categories), ("leave_out", leave_out))
        )
        if not targets:
            raise ValueError("Table.fit: expected a target, got none. Write target='price'.")
        inputs = [name for name in names_of("Table.fit", frame) if name not in targets and name not in left]
        if not inputs:
            raise ValueError("Table.fit: expected columns beside the target, got none. Pass them in the frame.")
        columns = [fit_column(name, read_column("Table.fit", frame, name, name in forced)) for name in inputs]
        made = [
            fit_target(_place("Table.fit", name), _target_column("Table.fit", frame, name, name in forced))
            for name in targets
        ]
        made = [found._replace(name=name) for found, name in zip(made, targets, strict=True)]
        return cls(tuple(columns), tuple(made), isinstance(target, str))

    def __call__(self, frame: Any) -> tuple[dict[str, Any], Any]:
        """Inputs and targets of a frame: `fnn.fit(net, loss, optimizer, table(frame), …)`."""
        return self.inputs(frame), self.target_of(frame)

    def inputs(self, frame: Any) -> dict[str, Any]:
        """Inputs of a frame with these columns in any order, and any others: `{"numbers": …, "categories": {…}}`.

        Raises:
            ValueError: a column is missing.
            TypeError: a column is of another kind than in the training.
        """
        there = names_of("table", frame)
        missing = [column.name for column in self.columns if column.name not in there]
        if missing:
            raise ShapeError(
                f"table: expected the {len(self.columns)} columns of the training, got a frame without "
                f"{', '.join(map(repr, missing))}. Add them, with gaps where nothing is known."
            )
        numbers, categories = [], {}
        for known in self.columns:
            column = read_column("table", frame, known.name, isinstance(known, Categories))
            if isinstance(known, Categories):
                categories[known.name] = as_places(known, column)
                continue
            if column.kind != known.kind and not column.missing.all():
                got = f"{column.kind}s" if column.kind != "category" else "text"
                where = _place("table", known.name)
                raise TypeError(f"{where}: expected {known.kind}s, as in the training, got {got}. Convert the column.")
            numbers.append(as_numbers(known, column._replace(kind=known.kind)))
        x: dict[str, Any] = {"numbers": np.concatenate(numbers, 1)} if numbers else {}
        return x | ({"categories": categories} if categories else {})

    def target_of(self, frame: Any) -> Any:
        """Targets of a frame: an array, or a dict of them."""
        _known_names("target", [target.name for target in self.targets], names_of("table", frame), "table")
        made = {
            target.name: as_target(
                _place("table", target.name),
                target,
                _target_column("table", frame, target.name, target.classes is not None),
            )
            for target in self.targets
        }
        return made[self.targets[0].name] if self.one else made

    @property
    def loss(self) -> Loss:
        """Of what is learned: squared error of standardised numbers, cross-entropy of classes; their sum for several."""
        of_each = {
            target.name: losses.squared_error if target.classes is None else losses.sparse_softmax_cross_entropy
            for target in self.targets
        }
        if self.one:
            return of_each[self.targets[0].name]
        return losses.joint(**{name: (1.0, loss) for name, loss in of_each.items()})

    def decode(self, y: Tree) -> Any:
        """Outputs as the frame has them: numbers `(rows,)` in their own units, and the names of classes."""

        def one(target: Target, y: Any) -> np.ndarray:
            if target.classes is None:
                numbers: np.ndarray = np.asarray(target.to_units(np.asarray(y, np.float64)))[:, 0]
                return numbers
            return np.array(target.classes)[np.asarray(y).argmax(-1)]

        return one(self.targets[0], y) if self.one else {t.name: one(t, y[t.name]) for t in self.targets}

    def in_units(self, metric: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """A loss or a metric of outputs and targets in the units of the frame: `{"error": table.in_units(absolute)}`.

        Classes stay logits and numbers of classes.
        """

        def measured(y: Any, t: Any) -> Any:
            of = self.targets
            units = (
                (lambda v: of[0].to_units(v)) if self.one else (lambda v: {a.name: a.to_units(v[a.name]) for a in of})
            )
            return metric(units(y), units(t))

        return measured

    # ---- files

    def save(self, path: PathLike) -> None:
        """Write it to a file of JSON, which `Table.load` reads: keep it beside the network's."""
        about = {
            "format": FORMAT,
            "columns": [{"of": type(column).__name__, **column._asdict()} for column in self.columns],
            "targets": [target._asdict() for target in self.targets],
            "one": self.one,
        }
        with open(checks.path("path", path), "w", encoding="utf-8") as file:
            json.dump(about, file, allow_nan=False)

    @classmethod
    def load(cls, path: PathLike) -> "Table":
        """Read what `save` has written."""
        with open(checks.path("path", path), encoding="utf-8") as file:
            try:
                about = json.load(file)
                if about["format"] != FORMAT:
                    raise ValueError(about["format"])
                kinds: dict[str, Any] = {"Numbers": Numbers, "Categories": Categories}
                columns = [kinds[column.pop("of")](**_tuples(column)) for column in about["columns"]]
                targets = [Target(**_tuples(target)) for target in about["targets"]]
                return cls(tuple(columns), tuple(targets), bool(about["one"]))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                got = f"{path} ({type(error).__name__})"
                raise ValueError(f"path: expected a file that Table.save wrote, got {got}. Save it again.") from None


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _place(name: str, column: str) -> str:
    return f"{name}, column {column!r}"


def _target_column(name: str, frame: Any, column: str, as_classes: bool) -> Any:
    found = read_column(name, frame, column, as_classes)
    at = [str(label) for label in frame.columns].index(column)
    of_bools = str((frame.dtypes.iloc if hasattr(frame, "iloc") else frame.dtypes)[at]).lower().startswith("bool")
    return read_column(name, frame, column, True) if of_bools else found


def _known_names(what: str, value: Any, there: list[str], name: str = "Table.fit") -> list[str]:
    names = [value] if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else None
    if names is None or not all(isinstance(one, str) for one in names):
        got = arguments.describe_thing(value)
        raise TypeError(f"{name}: expected names of columns as {what}, got {got}. Write {what}='price'.")
    unknown = [one for one in names if one not in there]
    if unknown:
        some = ", ".join(map(repr, there[:8])) + (", …" if len(there) > 8 else "")
        raise ValueError(f"{name}: expected {what} among the columns {some}, got {unknown[0]!r}. Name a column.")
    return names
