"""From what a user hands over to a run that can start: rows checked and on the device, the parts traced together.

Nothing is compiled here, so that what does not fit raises at once.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import trees
from fnn.compilation.programs import identify, output_shapes, signature, trainer_for
from fnn.training.config import TrainerConfig, resolve, resolve_loss
from fnn.training.fused_loop import build_trainer
from fnn.training.ranges import check_settings
from fnn.types import Data, History, Layer, ShapeError, TrainState


class Asked(NamedTuple):
    """A run as it was asked for, checked."""

    config: TrainerConfig
    settings: dict[str, Any]
    rows: Data
    key: Any
    params: Any
    state: Any


class Ready(NamedTuple):
    """What it takes to run it."""

    config: TrainerConfig  # identified
    settings: dict[str, Any]  # with the numbers of the optimizer
    program: Any  # a Program; None for a study, which has its own
    arguments: tuple[Any, ...]  # of the program's `init`
    state: TrainState  # shapes and dtypes
    history: History  # of no epochs


def trace_run(asked: Asked, alone: bool = True) -> Ready:
    """Trace, without compiling, so that what does not fit raises now; and look at the targets' values.

    Args:
        asked: the run.
        alone: trace the run itself too; a study does so with its own rows, and has no use for `history`.
    """
    config, settings, rows, key, params, state = asked
    try:
        check_settings((config.net, config.loss, config.optimizer, config.penalty), settings)
        check_initial_values(asked)
        config, settings = identify(config, settings, rows.train, params)
        dtype = jnp.result_type(float)
        settings = {name: np.asarray(value, dtype) for name, value in settings.items()}
        arguments = (key, rows, settings, params, state)
        compiled = trainer_for(config, *signature(arguments)) if alone else None
        made = compiled.state if compiled else jax.eval_shape(build_trainer(config).init, *arguments)
        outputs = compiled.outputs if compiled else output_shapes(config, made, rows)
    except (ValueError, TypeError) as error:
        error.__notes__ = []  # a remark on JAX's internals, of no use for a mistake in the arguments
        raise
    check = resolve_loss(config.loss, settings).check
    for y, part in zip(outputs, (part for part in rows if part is not None), strict=True):
        if check is not None:
            check(y, np.asarray(part.t))
    history: Any = compiled and jax.tree.map(lambda a: np.zeros(0, a.dtype), compiled.history)
    return Ready(config, settings, compiled, arguments, made, history)


def check_initial_values(asked: Asked) -> None:
    """Given parameters and layer state must be those of the network."""
    net = resolve("net", asked.config.net, Layer, asked.settings)
    if asked.params is None and asked.state is None:
        return
    made = jax.eval_shape(lambda: net.init(jax.random.key(0), asked.rows.train.x.shape[1:])[:2])
    hint = "Pass what was trained with this network, such as run.params and run.state."
    for name, expected, got in zip(("params", "state"), made, (asked.params, asked.state), strict=True):
        if got is None:
            continue
        of, theirs = trees.flatten_named(expected, name), trees.flatten_named(got, name)
        trees.check_same_leaves(name, f"those of {net}", of, theirs, hint, width=False)
        structures: list[Any] = [jax.tree.structure(tree) for tree in (expected, got)]
        if structures[0] != structures[1]:
            raise ShapeError(f"{name}: expected the structure {structures[0]}, got {structures[1]}. {hint}")
