"""The parts of a run as functions of arrays alone, to be traced: for telling whether two are the same."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fnn import checks
from fnn.batches import sizes
from fnn.parts import Recipe, given, given_loss
from fnn.types import Layer, Part, Penalty, Rows


class Function(NamedTuple):
    """A function, and the shapes and dtypes of the arguments that it will get in the run."""

    call: Callable[..., Any]
    arguments: tuple[Any, ...]


def part_functions(recipe: Recipe, settings: dict[str, Any], part: Part, params: Any = None) -> dict[str, Function]:
    """ "net", "loss", "optimizer.init", "optimizer.update", "penalty" (if any) and "metrics.NAME", by name.

    Args:
        recipe, settings: of the run.
        part: the rows it trains on, or their shapes and dtypes.
        params: the parameters it starts from, if given.
    """
    named = {name: jax.ShapeDtypeStruct((), jnp.result_type(float)) for name in settings}
    size = sizes(len(part.x), recipe.batch_size)[0]
    x, t = (jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype) for a in part[:2])

    if isinstance(recipe.net, Layer):
        made, outputs = jax.eval_shape(_traced_once(recipe.net), params, x)
    else:

        def of_settings(settings: Any, params: Any, x: Any) -> Any:
            return _forward(given("net", recipe.net, Layer, settings))(params, x)

        made, outputs = jax.eval_shape(of_settings, named, params, x)
    functions = {"net": Function(_net(recipe, params), (named, checks.key(0), x, jax.ShapeDtypeStruct((size,), bool)))}
    functions["loss"] = Function(_loss(recipe), (named, outputs, t))
    init, update = _optimizer(recipe)
    functions["optimizer.init"] = Function(init, (named, made))
    functions["optimizer.update"] = Function(update, (named, made, jax.eval_shape(init, named, made), made))
    if recipe.penalty is not None:
        functions["penalty"] = Function(_penalty(recipe), (named, made))
    return functions | {f"metrics.{name}": Function(metric, (outputs, t)) for name, metric in recipe.metrics}


def _forward(net: Layer) -> Callable[..., Any]:
    """The parameters, and what the network makes of examples."""

    def forward(params: Any, x: Any) -> Any:
        made, state, _ = net.init(checks.key(0), x.shape[1:])
        made = made if params is None else params
        return made, net.forward(made, state, x, None, False)[0]

    return forward


@lru_cache(maxsize=128)
def _traced_once(net: Layer) -> Callable[..., Any]:
    """One jitted function for one network: else JAX would trace, and remember, another each time."""
    return jax.jit(_forward(net))


def _net(recipe: Recipe, start: Any) -> Callable[..., Any]:
    def net(settings: Any, key: Any, x: Any, mask: Any) -> Any:
        layer = given("net", recipe.net, Layer, settings)
        params, state, _ = layer.init(key, x.shape[1:])
        if start is not None:  # of another dtype, maybe
            params = jax.tree.map(lambda a, given: a.astype(jnp.result_type(given)), params, start)
        ways = [layer.forward(params, state, x, key, train) for train in (False, True, Rows(mask))]
        return params, state, ways, [layer.backward(params, cache, jnp.ones_like(y)) for y, _, cache in ways]

    return net


def _loss(recipe: Recipe) -> Callable[..., Any]:
    def loss(settings: Any, y: Any, t: Any) -> Any:
        made = given_loss(recipe.loss, settings)
        return made.value(y, t), made.grad(y, t)

    return loss


def _penalty(recipe: Recipe) -> Callable[..., Any]:
    def penalty(settings: Any, params: Any) -> Any:
        made = given("penalty", recipe.penalty, Penalty, settings)
        return made.value(params), made.grad(params)

    return penalty


def _optimizer(recipe: Recipe) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def init(settings: Any, params: Any) -> Any:
        return given("optimizer", recipe.optimizer, optax.GradientTransformation, settings).init(params)

    def update(settings: Any, grads: Any, state: Any, params: Any) -> Any:
        made = given("optimizer", recipe.optimizer, optax.GradientTransformation, settings)
        with jax.numpy_dtype_promotion("standard"):
            return made.update(grads, state, params)

    return init, update
