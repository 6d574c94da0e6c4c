"""A run, traced before anything compiles, so that what does not fit raises at once."""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.arguments import trees
from fnn.arguments.leaves import example_shape, row_size
from fnn.arguments.sparse import is_sparse
from fnn.compilation.components import unread_settings
from fnn.compilation.programs import Program, identify, outputs_for, signature, trainer_for
from fnn.data import arrays
from fnn.data.warnings import warn
from fnn.devices.memory import free_bytes
from fnn.layers.embedding import check_categories
from fnn.layers.passes import init_layer
from fnn.layers.sparse import check_columns, check_matrix
from fnn.losses.aggregation import JOINT
from fnn.optimizers.second_order import full_batch_name
from fnn.runs import TrainState
from fnn.training.batches import padded_rows
from fnn.training.config import TrainerConfig, resolve, resolve_loss
from fnn.training.fused_loop import build_trainer
from fnn.training.layout import with_place_table
from fnn.training.ranges import check_settings
from fnn.training.state import Start
from fnn.types import Layer, Part, ShapeError

JACOBIANS = 3  # that are there at a time: itself, with the damping below it, and its decomposition


def identify_run(config: TrainerConfig, start: Start) -> tuple[TrainerConfig, Start]:
    """Return the configuration, known by what its parts compute, and the start with the numbers of its optimizer.

    Raises:
        ValueError, TypeError: settings out of their range; parameters of another network.
    """
    parts = config.net, config.loss, config.optimizer, config.penalty
    check_settings(parts, start.settings)
    check_initial_values(config, start)
    config, settings = identify(config, start.settings, start.data.train, start.params)
    dtype = jnp.result_type(float)
    return config, start._replace(settings={name: np.asarray(value, dtype) for name, value in settings.items()})


def trace_run(config: TrainerConfig, start: Start, own: Collection[str] = ()) -> tuple[TrainerConfig, Start, Program]:
    """Trace a run, without compiling, so that what does not fit raises now; and look at the targets' values.

    Warns of settings among `own`, those of the caller's, that nothing reads.
    """
    asked = config, start
    with plain_errors():
        config, start = identify_run(config, start)
        config = _ask_place(config, start)
        program = trainer_for(config, *signature(tuple(start)))
    check_jacobian_fits(program.state, program.outputs[0], start.data.train)
    check_values(config, start, program.outputs)
    warn_of_unread(*asked, own)
    return config, start, program


def _ask_place(config: TrainerConfig, start: Start) -> TrainerConfig:
    """The configuration with what its rule says of each leaf, by which its program is known."""
    if config.layout is None or config.layout.place is None:
        return config
    state = jax.eval_shape(build_trainer(config._replace(layout=None)).init, *start)
    return config._replace(layout=with_place_table(config.layout, state))


def trace_outputs(config: TrainerConfig, start: Start) -> tuple[TrainerConfig, Start]:
    """Trace what the network gives, and not the trainer, which a study traces with its own rows."""
    with plain_errors():
        config, start = identify_run(config, start)
        state, outputs = outputs_for(config, *signature(tuple(start)))
    check_jacobian_fits(state, outputs[0], start.data.train)
    check_values(config, start, outputs)
    return config, start


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Raise errors without JAX's remark on its own internals, of no use for a mistake in the arguments."""
    try:
        yield
    except jax.errors.JAXTypeError as error:  # of a function that holds what an outer jit, grad or vmap traces
        what = "net, loss, optimizer: expected ones made of known numbers"
        raise TypeError(f"{what}, got one that holds a traced array. {arrays.OUTSIDE}") from error
    except (ValueError, TypeError) as error:
        error.__notes__ = []
        raise


def warn_of_unread(config: TrainerConfig, start: Start, names: Collection[str]) -> None:
    """Warn of settings with these names that nothing reads: they change nothing."""
    for name in unread_settings(config, dict(start.settings), start, names) if names else []:
        warn(
            f"settings: expected numbers that net, loss, optimizer or penalty reads, got {name!r}, which none of them "
            f"reads. Write optimizer=lambda s: optax.sgd(s[{name!r}]), say, or leave it out."
        )


def check_values(config: TrainerConfig, start: Start, outputs: list[Any]) -> None:
    """Check the inputs that an embedding or sparse_dense gets, and targets that the loss or a metric judges."""
    net, loss = resolve("net", config.net, Layer, start.settings), resolve_loss(config.loss, start.settings)
    for name, rows in zip(("data[0]", "validation[0]"), start.data, strict=False):
        if rows is not None:
            check_categories(net, name, rows.x)
            check_columns(name, rows.x, net)
    joint = [metric for _, metric in config.metrics if isinstance(metric, JOINT)]
    checks = [thing.check for thing in (loss, *joint) if thing.check is not None]
    for y, part in zip(outputs, (part for part in start.data if part is not None), strict=True):
        for check in checks:
            check(y, jax.tree.map(np.asarray, part.t))


def check_matrices(config: TrainerConfig, settings: Mapping[str, Any], data: object, validation: object = None) -> None:
    """Raise where a sparse matrix, as the caller passed it, has another number of columns than the network."""
    for name, given in (("data[0]", data), ("validation[0]", validation)):
        if isinstance(given, (tuple, list)) and len(given) and is_sparse(given[0]):
            check_matrix(name, given[0], resolve("net", config.net, Layer, settings))


def check_jacobian_fits(state: TrainState, outputs: Any, train: Part) -> None:
    """Raise a MemoryError where an optimizer makes a Jacobian for which there is no room."""
    name = full_batch_name(state.optimizer)
    free = free_bytes() if name == "levenberg_marquardt" else None
    if free is None:
        return
    rows, columns = padded_rows(train), sum(a.size for a in jax.tree.leaves(state.params))
    numbers = rows * row_size(outputs)
    size = JACOBIANS * (numbers + columns) * columns * jnp.result_type(float).itemsize
    if size > free:
        raise MemoryError(
            f"{name}: expected a Jacobian for which there is room, got one of {numbers:,} x {columns:,} numbers, which "
            f"takes about {size / 1e9:.3g} GB of {free / 1e9:.3g} GB. Use optax.lbfgs(), or a smaller network."
        )


def check_initial_values(config: TrainerConfig, start: Start) -> None:
    """Given parameters and layer state must be those of the network."""
    net = resolve("net", config.net, Layer, start.settings)
    if start.params is None and start.state is None:
        return
    made = jax.eval_shape(lambda: init_layer(net, jax.random.key(0), example_shape(start.data.train.x))[:2])
    hint = "Pass what was trained with this network, such as run.params and run.state."
    for name, expected, got in zip(("params", "state"), made, (start.params, start.state), strict=True):
        if got is None:
            continue
        of, theirs = trees.flatten_named(expected, name), trees.flatten_named(got, name)
        trees.check_same_leaves(name, f"those of {net}", of, theirs, hint, width=False)
        structures: list[Any] = [jax.tree.structure(tree) for tree in (expected, got)]
        if structures[0] != structures[1]:
            raise ShapeError(f"{name}: expected the structure {structures[0]}, got {structures[1]}. {hint}")
