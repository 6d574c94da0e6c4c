"""The folds of a cross-validation: asked for, checked, and as tables of row numbers that all members share."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import arguments
from fnn.arguments.leaves import is_several, named_leaves, row_count
from fnn.arguments.sparse import check_scalable
from fnn.data import checks
from fnn.data.loading import load_arrays
from fnn.data.scaling import Standardiser, check_leaf_names, standardiser, way_of
from fnn.data.splits import are_classes, classes_of, folds as fold_rows
from fnn.data.tables.folds import fit_tables, loss_of_targets, metric_of_targets
from fnn.data.tables.table import Table
from fnn.inference.prediction import predict
from fnn.layers.embedding import embedding
from fnn.layers.entries import entries
from fnn.layers.sparse import sparse_dense
from fnn.training.config import check_metrics, resolve, resolve_loss
from fnn.types import Layer, Loss, LossLike, OfSettings, Part, Record, RowSelection, Settings, Tree

Fold = tuple[np.ndarray, np.ndarray]  # the rows to train on, and those to evaluate on


def arrays_of(data: Any, table: Any, standardise: Any) -> Any:
    """Inputs and targets of all rows."""
    if table is None:
        if hasattr(data, "columns"):
            got, hint = arguments.describe_thing(data), "Pass table=fnn.Table.fit(frame, target='name') beside it."
            raise TypeError(f"data: expected a pair (inputs, targets), or a frame beside a table, got {got}. {hint}")
        if standardise:
            check_scalable(data)
        return data
    if not isinstance(table, Table):
        got, hint = arguments.describe_thing(table), "Pass table=fnn.Table.fit(frame, target='name')."
        raise TypeError(f"table: expected a Table, got {got}. {hint}")
    if isinstance(data, (tuple, list)):
        got = f"a {type(data).__name__}"
        raise TypeError(f"data: expected a frame beside a table, got {got}. Pass the frame, and not table(frame).")
    if standardise is not False:
        got = arguments.describe_value(standardise)
        raise ValueError(f"standardise: expected False beside a table, which does so, got {got}. Omit standardise.")
    return table(data)


def with_units(loss: OfSettings[LossLike], training: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The loss and the metrics, of targets that carry the units of their fold."""

    def of_settings(settings: Settings) -> Loss:
        made: Loss = loss_of_targets(resolve_loss(loss, settings))
        return made

    metrics = {name: metric_of_targets(metric) for name, metric in check_metrics(training.get("metrics")).items()}
    return loss_of_targets(loss) if isinstance(loss, Loss) else of_settings, {**training, "metrics": metrics}


def make_folds(folds: Any, repeats: Any, stratify: Any, groups: Any, seed: Any, t: Tree) -> list[Fold]:
    """The rows of each fold."""
    repeats = arguments.whole_number("repeats", repeats, 1)
    t, stratify = _choose_strata(t, stratify)
    if stratify is not None and not isinstance(stratify, (bool, np.bool_)):
        got = arguments.describe_thing(stratify)
        raise TypeError(f"stratify: expected True, False or None, got {got}. Pass folds=fnn.folds(…) for others.")
    if hasattr(folds, "split") and not isinstance(folds, (str, bytes, type)):  # of scikit-learn
        hint = f"Pass its row numbers: folds=list(folds.split(x, t{', groups' * (groups is not None)}))."
        got = arguments.describe_thing(folds)
        raise TypeError(f"folds: expected a number, or pairs of row numbers, got {got}. {hint}")
    other = isinstance(folds, (str, bytes, dict, set, type, Record)) or arguments.is_deleted(folds)
    if other or not hasattr(folds, "__iter__") or getattr(folds, "ndim", 1) == 0:
        folds = arguments.whole_number("folds", folds, 2)
        if stratify and not are_classes(t):
            raise ValueError("stratify: expected targets that are classes, got numbers. Pass stratify=False.")
        wanted = stratify or (stratify is None and groups is None and are_classes(t))
        classes = classes_of(t) if wanted else None
        try:
            return fold_rows(len(t), folds, key=_seed_of(seed), stratify=classes, groups=groups, repeats=repeats)
        except ValueError as error:  # some of its arguments have other names here
            words = str(error).replace("k: ", "folds: ").replace(" k=", " folds=")
            raise type(error)(words.replace("stratify=None", "stratify=False")) from None
    for name, asked in (("repeats", repeats != 1), ("stratify", stratify), ("groups", groups is not None)):
        if asked:
            raise ValueError(f"{name}: expected none with folds of your own, got both. Pass it to fnn.folds instead.")
    made = [_pair(f"folds[{i}]", pair, len(t)) for i, pair in enumerate(folds)]
    if not made:
        raise ValueError("folds: expected at least one, got none. Pass a number, or pairs of row numbers.")
    for i, (train, test) in enumerate(made):
        if len(both := np.intersect1d(train, test)):
            raise ValueError(f"folds[{i}]: expected no row on both sides, got row {both[0]}. Take it out of one.")
    return made


def _seed_of(key: Any) -> int:
    """A seed for the folds, below 2^32: the integer itself if it is, else 32 bits that all words of the key make."""
    if isinstance(key, (int, np.integer)):
        words = [int(key) >> 32, int(key) & 0xFFFFFFFF]
    else:
        words = np.asarray(jax.random.key_data(key)).ravel()[:2].tolist()
    return int(words[1] if words[0] == 0 else np.random.SeedSequence(words).generate_state(1)[0])


def _pair(name: str, pair: Any, count: int) -> Fold:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        got = f"{len(pair)} things" if isinstance(pair, (list, tuple)) else arguments.describe_thing(pair)
        raise TypeError(f"{name}: expected a pair (train, test), got {got}. Pass the row numbers of both sides.")
    return _rows_of_fold(f"{name}[0]", pair[0], count), _rows_of_fold(f"{name}[1]", pair[1], count)


def _rows_of_fold(name: str, rows: Any, count: int) -> np.ndarray:
    rows = np.asarray(checks.rows(name, rows))
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected row numbers, got {rows.dtype} of shape {rows.shape}. Pass a list of them.")
    if rows.min() < 0 or rows.max() >= count:
        raise ValueError(f"{name}: expected rows 0 to {count - 1}, got {rows.min()} to {rows.max()}. Count from 0.")
    numbers: np.ndarray = rows.astype(np.int64)
    return numbers


def check_weights(weight: Any, folds: list[Fold]) -> None:
    """Rows that weigh nothing would have a loss of 0, which nothing beats."""
    for i, pair in enumerate(folds if weight is not None else []):
        for rows, side in zip(pair, ("train on", "judge by"), strict=True):
            if not np.asarray(weight)[rows].any():
                wanted = f"one above 0 among the rows to {side} in fold {i}"
                raise ValueError(f"weights: expected {wanted}, got zeros only. Drop the rows that weigh nothing.")


def _choose_strata(t: Tree, stratify: Any) -> tuple[np.ndarray, Any]:
    """The targets that folds go by, and whether each class is to be in every fold alike.

    Of several targets that is what `stratify` names; without a name none is.
    """
    if not is_several(t):
        return np.asarray(t), stratify
    known = {name.strip('[]"'): leaf for name, leaf in named_leaves("", t).items()}
    if isinstance(stratify, str) and stratify in known:
        return np.asarray(known[stratify]), True
    if stratify:
        got, hint = arguments.describe_value(stratify), f"Write stratify={next(iter(known))!r}."
        raise ValueError(f"stratify: expected one of the targets, {', '.join(known)}, got {got}. {hint}")
    return np.zeros(row_count(t)), stratify


class FoldRows(NamedTuple):
    """The rows of all folds, as networks train on them and predict of them.

    - `part`: the rows that all folds share; `views`: which of them each fold trains on and judges by.
    - `size`: how many rows the user has.
    - `inputs(fold, rows)`: the inputs of some of the user's rows, as the network of a fold gets them.
    - `outputs(fold, y)`: what a network says, as the user gets it.
    """

    part: Part
    views: tuple[RowSelection, RowSelection]
    size: int
    inputs: Callable[[int, np.ndarray], Tree]
    outputs: Callable[[int, Tree], Tree] = lambda fold, y: y


def rows_of_folds(
    folds: list[Fold], part: Part, x: Tree, leaves: tuple[str, ...] | None, table: Table | None, frame: Any
) -> FoldRows:
    """Of arrays, whose inputs are `x` on the host, or of a frame, to which a table is fitted in each fold."""
    return _rows_of_arrays(folds, part, x, leaves) if table is None else _rows_of_frame(folds, part, table, frame)


def check_scaled(net: Layer, x: Tree, view: RowSelection | None) -> None:
    """Raise where categories or sparse rows are standardised."""
    if view is None or view.mean is None:
        return
    scaled = [leaf for leaf, mean in named_leaves("data[0]", view.mean).items() if mean is not None]
    found = [entry for factory in (embedding, sparse_dense) for entry in entries(net, factory, "data[0]", x)]
    wrong = [entry.name for entry in found if entry.name in scaled]
    if wrong:
        others = [way_of(leaf.removeprefix("data[0]")) for leaf in scaled if leaf not in wrong]
        hint = f"Write standardise={others}." if others else "Omit standardise."
        got = f"{wrong[0]}, which an embedding or sparse_dense reads"
        raise ValueError(f"standardise: expected inputs that are no categories and no sparse rows, got {got}. {hint}")


def _rows_of_arrays(folds: list[Fold], part: Part, x: Tree, leaves: tuple[str, ...] | None) -> FoldRows:
    """Of arrays, which each fold standardises by its training rows; `leaves`: as `inputs_to_scale` says."""
    views, scalers = fold_selections(folds, x, leaves)

    def inputs(fold: int, rows: np.ndarray) -> Tree:
        scaler, some = scalers[fold], jax.tree.map(lambda a: a[rows], x)
        return some if scaler is None else scaler(some)

    return FoldRows(part, views, row_count(part.x), inputs)


def _rows_of_frame(folds: list[Fold], part: Part, table: Table, frame: Any) -> FoldRows:
    """Of a frame, to which each fold has a table fitted to its training rows; `part`: its rows by the given table."""
    found, count = fit_tables(table, frame, folds), row_count(part.x)
    weight = None if part.weight is None else np.tile(np.asarray(part.weight), len(folds))
    whole = load_arrays((found.x, found.t), None, weight, arguments.key(0), None)[0].train
    views, _ = fold_selections([(train + i * count, test + i * count) for i, (train, test) in enumerate(folds)])

    def inputs(fold: int, rows: np.ndarray) -> Tree:
        return jax.tree.map(lambda a: a[fold * count + rows], found.x)

    return FoldRows(whole, views, count, inputs, found.decode)


def inputs_to_scale(x: Tree, standardise: Any) -> tuple[Tree, tuple[str, ...] | None]:
    """The inputs on the host; the names of those to standardise, () for all that may be, None: none."""
    host = jax.tree.map(np.asarray, x)
    if isinstance(standardise, (list, tuple)):
        return host, check_leaf_names("standardise", host, standardise)
    return host, () if arguments.flag("standardise", standardise) else None


def standardiser_of(x: Tree, leaves: tuple[str, ...] = ()) -> Standardiser:
    """What it makes is in the dtype of the run, also of images of bytes."""
    found, dtype = standardiser(x, leaves=leaves or None), jnp.result_type(float)

    def in_dtype(moment: np.ndarray | None, a: np.ndarray) -> np.ndarray | None:
        return moment if moment is None or a.dtype.kind == "f" else moment.astype(dtype)

    mean, deviation = (jax.tree.map(in_dtype, moment, x, is_leaf=lambda leaf: leaf is None) for moment in found[:2])
    return found._replace(mean=mean, deviation=deviation)


def fold_selections(
    folds: list[Fold], x: Tree = (), leaves: tuple[str, ...] | None = None
) -> tuple[tuple[RowSelection, RowSelection], list[Standardiser | None]]:
    """The folds as tables of row numbers of one width, filled up with a row of the fold; a standardiser each.

    `leaves`: which of the inputs are standardised, as `inputs_to_scale` says.
    """
    scalers = [
        None if leaves is None else standardiser_of(jax.tree.map(lambda a, at=train: a[at], x), leaves)
        for train, _ in folds
    ]
    made, dtype = [], jnp.result_type(float)
    for side in (0, 1):
        rows = [fold[side] for fold in folds]
        room = max(map(len, rows))
        table = np.stack([np.append(r, np.repeat(r[:1], room - len(r))) for r in rows]).astype(np.int32)
        lengths = np.array([len(r) for r in rows], np.int32)
        moments = [
            None
            if leaves is None
            else jax.tree.map(lambda *a: np.stack(a).astype(dtype), *[getattr(s, name) for s in scalers])
            for name in ("mean", "deviation")
        ]
        made.append(RowSelection(table, lengths, *moments))  # type: ignore[arg-type]
    return (made[0], made[1]), scalers


def predict_folds(
    net: Any, settings: Any, runs: Any, folds: list[Fold], rows: FoldRows, repeats: int, must_stop: Callable[[], bool]
) -> Tree:
    """What each fold's network says of the rows that it has not seen; None if it was to stop before the end."""
    layer, whole = resolve("net", net, Layer, settings), None
    room, each = (repeats, rows.size), len(folds) // repeats
    for number, (_, test) in enumerate(folds):
        if must_stop():
            return None
        y = rows.outputs(number, predict(layer, runs[number], rows.inputs(number, test)))
        if whole is None:
            whole = jax.tree.map(lambda a: np.full((*room, *a.shape[1:]), np.nan, a.dtype), y)
        for kept, new in zip(jax.tree.leaves(whole), jax.tree.leaves(y), strict=True):
            kept[number // each, test] = new
    return jax.tree.map(lambda a: a[0], whole) if repeats == 1 else whole
