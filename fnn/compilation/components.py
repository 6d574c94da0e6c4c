"""The parts of a run as functions of arrays alone, to be traced: for telling whether two are the same."""

import contextlib
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.interpreters.partial_eval import dce_jaxpr

from fnn import arguments
from fnn.arguments.constants import memoise_constants
from fnn.arguments.leaves import example_shape, row_count, some_rows
from fnn.gradients.cost import autodiff
from fnn.layers.passes import backward_layer, forward_layer, init_layer
from fnn.losses.aggregation import JOINT, figure_of_batch
from fnn.losses.reduction import dtype_of_sums, row_values
from fnn.optimizers.protocol import init_optimizer, stand_in_cost, update_optimizer
from fnn.training.batches import batch_sizes
from fnn.training.config import (
    TrainerConfig,
    bind,
    cost_gradient,
    resolve,
    resolve_loss,
)
from fnn.training.state import Start, dtype_of
from fnn.types import Array, Gradients, Key, Layer, Metric, OptimizerState, Params, Part, Penalty, Rows, Settings, Tree


class Component(NamedTuple):
    """A function, and the shapes and dtypes of the arguments that it will get in the run."""

    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    spare: int = 0  # how many of the last arguments it may leave unused, and is then as good as a function without them


def components(
    config: TrainerConfig, settings: dict[str, Any], part: Part, params: Params = None
) -> dict[str, Component]:
    """ "net", "loss", "gradient", "optimizer.init", "optimizer.update", "penalty" (if any), "metrics.NAME", by name.

    Args:
        config, settings: of the run.
        part: the rows it trains on, or their shapes and dtypes.
        params: the parameters it starts from, if given.
    """
    named = {name: jax.ShapeDtypeStruct((), jnp.result_type(float)) for name in settings}
    size = batch_sizes(row_count(part.x), config.batch_size)[0]
    x, t = (some_rows(tree, size) for tree in part[:2])

    if isinstance(config.net, Layer):
        made, outputs = jax.eval_shape(_jit(config.net), params, x)
    else:

        def of_settings(settings: Settings, params: Params, x: Array) -> tuple[Params, Array]:
            both: tuple[Params, Array] = _forward(resolve("net", config.net, Layer, settings))(params, x)
            return both

        made, outputs = jax.eval_shape(of_settings, named, params, x)
    mask = jax.ShapeDtypeStruct((size,), bool)
    functions = {"net": Component(_net(config, params), (named, arguments.key(0), x, mask))}
    functions["loss"] = Component(_loss(config), (named, outputs, t))
    functions["gradient"] = Component(_gradient(config), (named, arguments.key(0), made, x, t, mask))
    init, update = optimizer_functions(config)
    functions["optimizer.init"] = Component(init, (named, made))
    begun, value = jax.eval_shape(init, named, made), jax.ShapeDtypeStruct((), dtype_of_sums(dtype_of(made)))
    functions["optimizer.update"] = Component(update, (named, made, begun, made, value), spare=1)
    if config.penalty is not None:
        functions["penalty"] = Component(penalty_function(config), (named, made))
    for name, metric in config.metrics:
        functions[f"metrics.{name}"] = Component(_metric(name, metric), (outputs, t))
    return functions


def unread_settings(config: TrainerConfig, settings: dict[str, Any], start: Start, names: Collection[str]) -> list[str]:
    """Those of these names of settings on which no part of a run depends: network, loss, optimizer and penalty.

    What is read when the parts are made is found at once; of the rest the programs of the parts tell.

    >>> import fnn, jax, jax.numpy as jnp, optax
    >>> from fnn.compilation.components import unread_settings
    >>> from fnn.training.config import trainer_config
    >>> from fnn.training.state import Start
    >>> rows = fnn.Data(fnn.Part(jnp.ones((4, 2)), jnp.ones((4, 1))))
    >>> config = trainer_config(fnn.serial(fnn.dense(1)), fnn.losses.squared_error, lambda s: optax.sgd(s["lr"]))
    >>> settings = {"lr": 0.1, "rate": 0.5}
    >>> unread_settings(config, settings, Start(jax.random.key(0), rows, settings), settings)
    ['rate']
    """
    noted = _Noted(settings)
    with contextlib.suppress(Exception):  # of a part that wants traced numbers: its program tells
        bind(config, noted)
    unread = sorted(set(names) & settings.keys() - noted.names)
    if not unread:
        return []
    functions = components(config, settings, start.data.train, start.params)
    for name in ("net", "loss", "optimizer.init", "optimizer.update", "penalty"):
        if name in functions:
            used = _used_settings(functions[name], sorted(settings))
            unread = [setting for setting in unread if setting not in used]
    return unread


class _Noted(dict[str, Any]):
    """Settings that note which of them are read by name."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)


def _used_settings(function: Component, names: list[str]) -> set[str]:
    """On which of these settings what a part computes depends."""
    return {name for name, used in zip(names, _dependence(function)[: len(names)], strict=True) if used}


def uses_key(gradient: Component) -> bool:
    """Whether the gradient of a batch depends on the key of its step, as that of a network with dropout does."""
    return _dependence(gradient)[len(jax.tree.leaves(gradient.arguments[0]))]


def _dependence(function: Component) -> list[bool]:
    """On which of its arguments' leaves a function's results depend."""
    # a function made here, since JAX remembers the program of one that it has traced
    closed = jax.make_jaxpr(lambda *given: function.call(*given))(*function.arguments)
    return list(dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))[1])


def _forward(net: Layer) -> Callable[..., Any]:
    """The parameters, and what the network makes of examples."""

    def forward(params: Params, x: Array) -> tuple[Params, Array]:
        made, state, _ = init_layer(net, arguments.key(0), example_shape(x))
        made = made if params is None else params
        return made, forward_layer(net, made, state, x, None, False)[0]

    return forward


@memoise_constants
def _jit(net: Layer) -> Callable[..., Any]:
    """JAX remembers what it has traced of one function: so one for each network that cannot change."""
    return jax.jit(_forward(net))


def _net(config: TrainerConfig, start: Params) -> Callable[..., Any]:
    """What a run uses of a network: `backward` only where its gradient does."""

    def net(settings: Settings, key: Key, x: Array, mask: Array) -> Tree:
        layer = resolve("net", config.net, Layer, settings)
        params, state, _ = init_layer(layer, key, example_shape(x))
        if start is not None:  # of another dtype, maybe
            params = jax.tree.map(lambda a, given: a.astype(jnp.result_type(given)), params, start)
        ways = [forward_layer(layer, params, state, x, key, train) for train in (False, True, Rows(mask))]
        if config.gradient is autodiff:
            return params, state, [(y, new_state) for y, new_state, _ in ways]
        return (
            params,
            state,
            ways,
            [backward_layer(layer, params, cache, jax.tree.map(jnp.ones_like, y)) for y, _, cache in ways[1:]],
        )

    return net


def _loss(config: TrainerConfig) -> Callable[..., Any]:
    def loss(settings: Settings, y: Array, t: Array) -> tuple[Array, Array]:
        made = resolve_loss(config.loss, settings)
        return row_values("loss", made.value, y, t, True), arguments.call("loss.grad", made.grad, y, t)

    return loss


def penalty_function(config: TrainerConfig) -> Callable[..., Any]:
    """`penalty(settings, params)`: its value and its derivative."""

    def penalty(settings: Settings, params: Params) -> tuple[Array, Params]:
        made = resolve("penalty", config.penalty, Penalty, settings)
        return made.value(params), made.grad(params)

    return penalty


def _gradient(config: TrainerConfig) -> Callable[..., Any]:
    def gradient(
        settings: Settings, key: Key, params: Params, x: Array, t: Array, mask: Array
    ) -> tuple[Gradients, Gradients]:
        bound = bind(config, settings)
        state, weight = bound.net.init(key, example_shape(x))[1], mask.astype(dtype_of(params))
        whole = cost_gradient(bound)(params, state, x, t, None, key, True)
        return whole, cost_gradient(bound)(params, state, x, t, weight, key, Rows(mask))

    return gradient


def _metric(name: str, metric: Metric) -> Callable[..., Any]:
    if isinstance(metric, JOINT):
        return lambda y, t: figure_of_batch(name, metric, y, t)
    return lambda y, t: row_values(f"metric {name}", metric, y, t)


def optimizer_functions(config: TrainerConfig) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`init(settings, params)` and `update(settings, grads, state, params, value)` of an optimizer."""

    def init(settings: Settings, params: Params) -> OptimizerState:
        return init_optimizer(resolve("optimizer", config.optimizer, optax.GradientTransformation, settings), params)

    def update(
        settings: Settings, grads: Params, state: OptimizerState, params: Params, value: Array
    ) -> tuple[Params, OptimizerState]:
        made = resolve("optimizer", config.optimizer, optax.GradientTransformation, settings)
        with jax.numpy_dtype_promotion("standard"):
            return update_optimizer(made, grads, state, params, lambda: stand_in_cost(grads, params, value))

    return init, update
