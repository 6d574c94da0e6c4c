"""All of it together: fitted once, applied to any frame, kept in a file."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fnn import arguments, losses
from fnn.arguments.leaves import leaf_name
from fnn.data.tables.columns import Categories, Column, Numbers, as_inputs, fit_column
from fnn.data.tables.files import read_table, write_table
from fnn.data.tables.frames import Values, names_of, read_column
from fnn.data.tables.shown import HEAD, as_text, lines
from fnn.data.tables.targets import Target, as_target, decode_outputs, fit_target
from fnn.data.tables.units import in_units
from fnn.runs import markup
from fnn.types import Loss, PathLike, ShapeError, Tree

Names = str | Sequence[str]


class Table(NamedTuple):
    """How frames become arrays for a network: `Table.fit` finds it in the training rows.

    - `columns`: what is known of each column; `targets`: of each target, one or several.
    - `one`: whether there is one target, so that targets and outputs are an array and no dict.

    A network by hand, as `fnn.network_for(table)` makes it, gets a dict: "numbers" is one array, "categories" a dict of
    arrays `(rows, 1)`.

    >>> import fnn, optax, pandas
    >>> frame = pandas.DataFrame({"area": [50, 60, 90], "garden": [True, False, True], "kind": ["flat", "flat", "hut"]})
    >>> table = fnn.Table.fit(frame, target="kind")
    >>> net = fnn.network_for(table, hidden=(8,))
    >>> run = fnn.fit(net, table.loss, optax.adam(0.1), table(frame), epochs=50, progress=False)
    >>> new = pandas.DataFrame({"garden": [False, True], "area": [55, 95]})
    >>> print(table.decode(fnn.predict(net, run, table.inputs(new))))
    ['flat' 'hut']
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
        if len(set(targets)) < len(targets):
            raise ValueError(f"Table.fit: expected each target once, got {targets}. Name others.")
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

    def __call__(self, frame: Any) -> tuple[Any, Any]:
        """Inputs and targets of a frame: `fnn.fit(net, loss, optimizer, table(frame), …)`."""
        return self.inputs(frame), self.target_of(frame)

    def inputs(self, frame: Any) -> dict[str, Any]:
        """Inputs of a frame with these columns in any order, and any others: `{"numbers": …, "categories": {…}}`.

        Raises:
            ValueError: a column is missing.
            TypeError: a column is of another kind than in the training.
        """
        return as_inputs(self.columns, input_values(self, frame), self.columns)

    def target_of(self, frame: Any) -> Any:
        """Targets of a frame: an array, or a dict of them."""
        made = {
            target.name: as_target(_place("table", target.name), target, column)
            for target, column in zip(self.targets, target_values(self, frame), strict=True)
        }
        return made[self.targets[0].name] if self.one else made

    @property
    def loss(self) -> Loss:
        """Squared error of standardised numbers, cross-entropy of classes; for several targets their sum."""
        of_each = {
            target.name: losses.squared_error if target.classes is None else losses.sparse_softmax_cross_entropy
            for target in self.targets
        }
        if self.one:
            return of_each[self.targets[0].name]
        return losses.joint(**{name: (1.0, loss) for name, loss in of_each.items()})

    def decode(self, y: Tree) -> Any:
        """Outputs as the frame has them: numbers `(rows,)` in their own units, and the names of classes."""
        if self.one:
            return decode_outputs("y", self.targets[0], y)
        names = [target.name for target in self.targets]
        if not isinstance(y, dict) or set(y) != set(names):
            got = arguments.describe_value(y)
            raise TypeError(f"y: expected a dict of outputs, {names}, got {got}. Pass what fnn.predict returns.")
        return {
            target.name: decode_outputs(leaf_name("y", target.name), target, y[target.name]) for target in self.targets
        }

    def in_units(self, metric: Any) -> Any:
        """A metric in the units of the frame: `fnn.evaluate(…, {"error": table.in_units(fnn.losses.absolute_error)})`.

        It may be a function of outputs and targets, a loss, or one of `fnn.metrics`. Classes stay logits and numbers of
        classes. With several targets it gets dicts.

        >>> import fnn, pandas
        >>> frame = pandas.DataFrame({"area": [50, 60, 90], "price": [1e5, 2e5, 3e5]})
        >>> table = fnn.Table.fit(frame, target="price")
        >>> t = table.target_of(frame)
        >>> print(table.in_units(fnn.losses.absolute_error)(t, 0 * t).round())
        [100000.      0. 100000.]
        """
        return in_units(metric, self.targets, self.one)

    # ---- to look at

    def __repr__(self) -> str:
        return as_text(lines(self.columns, self.targets))

    def _repr_html_(self) -> str:
        return markup.table(lines(self.columns, self.targets), HEAD)

    # ---- files

    def save(self, path: PathLike) -> None:
        """Write it to a file of JSON, which `Table.load` reads: keep it beside the network's.

        The file is written whole or not at all; one that was there is replaced.
        """
        about = {
            "columns": [{"of": type(column).__name__, **column._asdict()} for column in self.columns],
            "targets": [target._asdict() for target in self.targets],
            "one": self.one,
        }
        write_table(path, about)

    @classmethod
    def load(cls, path: PathLike) -> "Table":
        """Read what `save` has written.

        Raises:
            ValueError: the file is damaged, or of something else.
            FileNotFoundError: there is none.

        >>> import fnn, os, pandas, tempfile
        >>> frame = pandas.DataFrame({"area": [50, 60, 90], "town": ["Ulm", "Bonn", "Ulm"]})
        >>> table = fnn.Table.fit(frame, target="town")
        >>> path = os.path.join(tempfile.mkdtemp(), "table.json")
        >>> table.save(path)
        >>> fnn.Table.load(path) == table
        True
        """
        about = read_table(path)
        kinds: dict[str, Any] = {"Numbers": Numbers, "Categories": Categories}
        columns = [kinds[column.pop("of")](**_tuples(column)) for column in about["columns"]]
        targets = [Target(**_tuples(target)) for target in about["targets"]]
        return cls(tuple(columns), tuple(targets), bool(about["one"]))


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def input_values(table: Table, frame: Any) -> list[Values]:
    """The columns of a frame that are inputs, as they are, in the order of the table's."""
    there = names_of("table", frame)
    missing = [column.name for column in table.columns if column.name not in there]
    if missing:
        raise ShapeError(
            f"table: expected the {len(table.columns)} columns of the training, got a frame without "
            f"{', '.join(map(repr, missing))}. Add them, with gaps where nothing is known."
        )
    return [_values(known, frame) for known in table.columns]


def target_values(table: Table, frame: Any) -> list[Values]:
    """The columns of a frame that are targets, as they are, in the order of the table's."""
    there = names_of("table", frame)
    for target in table.targets:
        if target.name not in there:
            hint = "Add the column, or call table.inputs(frame), which needs none."
            raise ValueError(f"table: expected the target {target.name!r} in the frame, got none. {hint}")
    return [_target_column("table", frame, target.name, target.classes is not None) for target in table.targets]


def _values(known: Column, frame: Any) -> Values:
    """A column that is of the kind that it had in the training, or whose rows are all gaps."""
    column = read_column("table", frame, known.name, isinstance(known, Categories))
    if isinstance(known, Categories) or column.kind == known.kind:
        return column
    if column.missing.all():
        blank = np.zeros(len(column.missing), "datetime64[us]" if "date" in known.kind else np.float64)
        return Values(known.kind, blank, column.missing, known.kind)
    got = f"{column.kind}s" if column.kind != "category" else "text"
    where = _place("table", known.name)
    raise TypeError(f"{where}: expected {known.kind}s, as in the training, got {got}. Convert the column.")


def _place(name: str, column: str) -> str:
    return f"{name}, column {column!r}"


def _target_column(name: str, frame: Any, column: str, as_classes: bool) -> Values:
    found = read_column(name, frame, column, as_classes)
    return read_column(name, frame, column, True) if found.of == "boolean" else found


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
