"""What an optimizer may ask of the cost of the batch under way."""

import jax

from fnn.gradients.cost import autodiff, batch_cost
from fnn.gradients.jacobians import least_squares
from fnn.optimizers.protocol import CostArguments
from fnn.training.batches import Batch
from fnn.training.config import TrainerConfig, cost_gradient
from fnn.training.layout import gather_params
from fnn.types import Array, Gradients, Key, Params, State


def cost_arguments(
    config: TrainerConfig, g: Gradients, params: Params, state: State, batch: Batch, key: Key
) -> CostArguments:
    """The cost of this batch, as a number and as functions, by the names of `fnn.optimizers.protocol`.

    Its derivative is that of the run: of a run with `gradient=fnn.backprop` it is that of the hand-derived rules.

    Args:
        config: the run, bound to its settings.
        g: the gradient at the parameters.
        params, state: the parameters and the layer state at which the step begins.
        batch, key: of the step.
    """
    parts = config.net, config.loss, config.penalty, config.reduction
    cost, value_of = batch_cost(*parts)
    rows = batch.x, batch.t, batch.weight, key, batch.train

    def value_fn(params: Params) -> Array:
        return cost(gather_params(config.layout, params), state, *rows)

    if config.gradient is not autodiff:
        gradient, plain = cost_gradient(config), value_fn

        def value_and_grads(params: Params) -> tuple[Array, Params]:
            found = gradient(gather_params(config.layout, params), state, *rows)
            return value_of(found, params), found.grads

        value_fn = jax.custom_vjp(plain)
        value_fn.defvjp(value_and_grads, lambda grads, by: (jax.tree.map(lambda a: (a * by).astype(a.dtype), grads),))

    return {
        "value": value_of(g, params),
        "grad": g.grads,
        "value_fn": value_fn,
        "obj_fn": value_fn,
        "grad_fn": lambda params, i=0: jax.grad(value_fn)(params),
        "least_squares": lambda: least_squares(parts, gather_params(config.layout, params), state, *rows),
    }
