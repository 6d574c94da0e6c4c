"""From what a user hands over to a run that can start: rows checked and on the device, the parts traced together.

Nothing is compiled here, so that what does not fit raises at once.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import trees
from fnn.compilation.programs import NUMBERS, identify, output_shapes, program, shapes_of
from fnn.data import arrays, checks
from fnn.data.scaling import held_rows
from fnn.data.streams import Stream, checked
from fnn.gradients.cost import autodiff
from fnn.studies.tables import check_distinct, history_columns
from fnn.training.config import Recipe, given, given_loss
from fnn.training.fused_loop import from_recipe
from fnn.training.ranges import check_settings
from fnn.types import Columns, Data, History, Layer, Part, ShapeError, TrainState


class Asked(NamedTuple):
    """A run as it was asked for, checked."""

    recipe: Recipe
    settings: dict[str, Any]
    rows: Data
    key: Any
    params: Any
    state: Any


class Ready(NamedTuple):
    """What it takes to run it."""

    recipe: Recipe  # identified
    settings: dict[str, Any]  # with the numbers of the optimizer
    program: Any  # a Program; None for a study, which has its own
    arguments: tuple[Any, ...]  # of the program's `init`
    state: TrainState  # shapes and dtypes
    history: History  # of no epochs


OWN_SETTINGS = ("patience", "min_delta", NUMBERS)


def asked_recipe(
    net: Any,
    loss: Any,
    optimizer: Any,
    *,
    penalty: Any = None,
    gradient: Any = autodiff,
    metrics: Any = None,
    batch_size: int | None = None,
    shuffle: bool = True,
    reduction: str = "mean",
    monitor: str = "loss",
    mode: str | None = None,
    patience: int | None = None,
    validates: bool = False,
) -> Recipe:
    """The arguments of `fit` that say what a run is, checked."""
    measured = checks.metrics(metrics)
    check_distinct(history_columns(measured))
    return Recipe(
        net=net,
        loss=loss,
        optimizer=optimizer,
        penalty=penalty,
        gradient=checks.gradient(gradient),
        metrics=tuple(measured.items()),
        batch_size=None if batch_size is None else checks.whole_number("batch_size", batch_size, 1),
        shuffle=checks.flag("shuffle", shuffle),
        reduction=checks.one_of("reduction", reduction, ("mean", "sum")),
        monitor=monitor,
        mode=checks.monitored(monitor, mode, patience, metrics, validates),
    )


def own_settings(patience: Any, min_delta: Any) -> dict[str, float]:
    """The settings that early stopping goes by."""
    return {
        "patience": np.inf if patience is None else checks.whole_number("patience", patience, 1),
        "min_delta": checks.number("min_delta", min_delta, 0),
    }


def start_of(params: Any, state: Any) -> tuple[Any, Any]:
    """Given parameters and layer state that nobody else can change, with 32 bits where JAX is set to these."""
    cut: list[str] = []
    mine = arrays.owned_tree("params", params, cut), arrays.owned_tree("state", state, cut)
    checks.Cut(cut).warn(np.float32, 4)
    return mine


VALIDATION = "validation[0]", "validation[1]"


def rows_of(
    data: Any, validation: Any, weights: Any, key: Any, params: Any, reduction: Any = "mean"
) -> tuple[Data, np.ndarray | None, Columns | None]:
    """The rows to train and to validate on, on the device; which rows of the data the latter are, if they are; and the
    names of the columns, if the data are frames.

    A share to hold out is one of the rows that weigh something: the others are not there to judge by.
    """
    cut = checks.Cut()
    dtype, scalable = arrays.dtype_of_run(params), reduction != "sum"
    train, held, at = _part("data", *checks.pair("data", data), weights, dtype, cut, scalable), None, None
    if isinstance(validation, (int, float, np.number)):
        seed = np.asarray(jax.random.key_data(key)).tolist()
        real = np.arange(len(train.x)) if train.weight is None else np.flatnonzero(np.asarray(train.weight))
        at = real[held_rows(np.asarray(train.t)[real], checks.fraction("validation", validation), seed)]
        others = np.setdiff1d(np.arange(len(train.x)), at)
        # on the host, since on the device this would compile
        train, held = (jax.tree.map(lambda a, at=at: arrays.owned(np.asarray(a)[at]), train) for at in (others, at))
    elif validation is not None:
        given = checks.pair_or_triple("validation", validation)
        held = _part("validation", *given, dtype, cut, scalable)
        arrays.same_columns(VALIDATION, arrays.columns(data), arrays.columns(given))
    cut.warn(dtype, 4)
    return Data(train, held), at, arrays.columns(data)


def first_row_of(
    stream: Stream, validation: Any, weights: Any, key: Any, params: Any, reduction: Any = "mean"
) -> tuple[Data, None, Columns | None]:
    """The first row of a stream, which stands for all where shapes are asked for, and the rows to validate on; and the
    names of the columns, if chunks are frames."""
    if weights is not None:
        raise ValueError(
            "weights: expected them in the chunks of the stream, as (x, t, weight), got an argument. Do yield them."
        )
    if isinstance(validation, (int, float, np.number)):
        raise ValueError(
            f"validation: expected rows (x, t) beside a stream, got the share {validation}. Do hold some rows back."
        )
    cut = checks.Cut()
    dtype = arrays.dtype_of_run(params)
    for number, chunk in enumerate(stream.chunks((0,), 0, False)):
        if len(chunk[0]):
            x, t, _ = checked(f"data, chunk {number}", chunk, dtype, checks.Cut())  # the buffers warn
            train = Part(arrays.owned(x[:1]), arrays.owned(t[:1]), arrays.owned(np.ones(1, dtype)))
            columns = arrays.columns(chunk)
            break
    else:
        raise ValueError("data: expected a stream with rows, got none. Do yield chunks (x, t).")
    held = None
    if validation is not None:
        given = checks.pair_or_triple("validation", validation)
        held = _part("validation", *given, dtype, cut, reduction != "sum")
        arrays.same_columns(VALIDATION, columns, arrays.columns(given))
        cut.warn(dtype, 4)
    return Data(train, held), None, columns


def _part(name: str, x: Any, t: Any, weights: Any, dtype: Any, cut: checks.Cut, scalable: bool) -> Part:
    x = checks.inputs(f"{name}[0]", x, dtype, cut, arrays.owned)
    t = checks.targets(f"{name}[1]", t, dtype, cut, arrays.owned)
    checks.same_rows(name, x, t)
    own = "weights" if name == "data" else f"{name}[2]"
    weight = None if weights is None else arrays.owned(checks.weights(own, weights, len(x), dtype, scalable))
    return Part(x, t, weight)


def made_ready(asked: Asked, alone: bool = True) -> Ready:
    """Trace, without compiling, so that what does not fit raises now; and look at the targets' values.

    Args:
        asked: the run.
        alone: trace the run itself too; a study does so with its own rows, and has no use for `history`.
    """
    recipe, settings, rows, key, params, state = asked
    try:
        check_settings((recipe.net, recipe.loss, recipe.optimizer, recipe.penalty), settings)
        _check_start(asked)
        recipe, settings = identify(recipe, settings, rows.train, params)
        dtype = jnp.result_type(float)
        settings = {name: np.asarray(value, dtype) for name, value in settings.items()}
        arguments = (key, rows, settings, params, state)
        compiled = program(recipe, *shapes_of(arguments)) if alone else None
        made = compiled.state if compiled else jax.eval_shape(from_recipe(recipe).init, *arguments)
        outputs = compiled.outputs if compiled else output_shapes(recipe, made, rows)
    except (ValueError, TypeError) as error:
        error.__notes__ = []  # a remark on JAX's internals, of no use for a mistake in the arguments
        raise
    check = given_loss(recipe.loss, settings).check
    for y, part in zip(outputs, (part for part in rows if part is not None), strict=True):
        if check is not None:
            check(y, np.asarray(part.t))
    history: Any = compiled and jax.tree.map(lambda a: np.zeros(0, a.dtype), compiled.history)
    return Ready(recipe, settings, compiled, arguments, made, history)


def _check_start(asked: Asked) -> None:
    """Given parameters and layer state must be those of the network."""
    net = given("net", asked.recipe.net, Layer, asked.settings)
    if asked.params is None and asked.state is None:
        return
    made = jax.eval_shape(lambda: net.init(jax.random.key(0), asked.rows.train.x.shape[1:])[:2])
    mend = "Do pass what was trained with this network, such as run.params and run.state."
    for name, expected, got in zip(("params", "state"), made, (asked.params, asked.state), strict=True):
        if got is None:
            continue
        of, theirs = trees.named(expected, name), trees.named(got, name)
        trees.check_alike(name, f"those of {net}", of, theirs, mend, width=False)
        structures: list[Any] = [jax.tree.structure(tree) for tree in (expected, got)]
        if structures[0] != structures[1]:
            raise ShapeError(f"{name}: expected the structure {structures[0]}, got {structures[1]}. {mend}")
