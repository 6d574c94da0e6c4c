"""Compiled programs, remembered: one for every run that computes the same, whatever its numbers, seeds and data.

A part of the run that is made anew each time (an optax optimizer, a function of the settings, a lambda) is replaced by
the first one that computes the same: their traced programs are compared, not their names or their source.
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fnn.part_functions import Function, part_functions
from fnn.parts import Recipe
from fnn.tracing import traced
from fnn.train import from_recipe
from fnn.types import Layer, Loss, Part, Penalty, Trainer

NUMBERS = "optimizer"  # the setting that holds the numbers of the optimizer's program

_known: dict[Any, Any] = {}


class Program(NamedTuple):
    """A training run, compiled once for each shape of data. `run` donates the state, never the data."""

    pure: Trainer
    init: Any
    run: Any
    traced: Trainer  # the same for `eval_shape`, which takes no compiler options


@functools.lru_cache(maxsize=128)
def program(recipe: Recipe) -> Program:
    """The program of a recipe."""
    pure = from_recipe(recipe)
    init = jax.jit(pure.init, compiler_options=cheaply())
    run = jax.jit(pure.run, donate_argnums=0)
    return Program(pure, init, run, Trainer(jax.jit(pure.init), jax.jit(pure.run)))


def cheaply() -> dict[str, Any]:
    """Compiler options for what runs once, such as drawing the first weights: compiled in a tenth of the time.

    On a CPU alone; elsewhere other things take the time.
    """
    if jax.default_backend() != "cpu":
        return {}
    older = {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 11) else {}
    return {"xla_backend_optimization_level": 0} | older


def for_small() -> dict[str, Any]:
    """Compiler options for networks of a handful of numbers, on a CPU.

    XLA calls a library (YNNPACK) for sums and products there, and writes out what they need before. Without it many
    2-3-2 networks in one program train twice as fast; a network on the digits is as fast with it as without.
    """
    return {"xla_cpu_experimental_ynn_fusion_type": ""} if jax.default_backend() == "cpu" else {}


def compiled_with(lowered: Any, options: dict[str, Any]) -> Any:
    """Compile with these options, or without, where XLA does not know them (any more)."""
    try:
        return lowered.compile(options)
    except RuntimeError:
        return lowered.compile()


def side_by_side(starting: Callable[[], Any], running: Callable[[], Any]) -> tuple[Any, Any]:
    """Compile what begins a run in a thread of its own, and here what goes on with it, which takes longer.

    XLA leaves Python to others while it compiles.
    """
    with ThreadPoolExecutor(1) as pool:
        begin = pool.submit(starting)
        whole = running()
        return begin.result(), whole


def shape_of(tree: Any) -> Any:
    """What a program is compiled for: structure, shapes and dtypes; can be hashed."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((np.shape(a), str(jnp.result_type(a))) for a in leaves)


def compile_ahead(made: Program, arguments: tuple[Any, ...], state: Any, data: Any) -> None:
    """Compile `init` and `run` at once, where they have not been for such arguments: calls find them compiled."""
    known = made.init, shape_of((arguments, state, data))
    if known in _ahead:
        return
    if len(_ahead) > 1024:
        _ahead.clear()
    _ahead.add(known)
    none = np.int32(0)
    starting = made.init.lower(*arguments)
    side_by_side(starting.compile, lambda: made.run.lower(state, data, none, none).compile())


_ahead: set[Any] = set()


def shared(recipe: Recipe, settings: dict[str, Any], part: Part, params: Any = None) -> tuple[Recipe, dict[str, Any]]:
    """The recipe with its parts replaced by the first that compute the same, and the settings for it.

    Args:
        recipe, settings: as asked for.
        part: the rows it trains on, or their shapes and dtypes.
        params: the parameters it starts from, if given.

    >>> import fnn, jax.numpy as jnp, optax
    >>> from fnn.parts import Recipe
    >>> from fnn.programs import shared
    >>> rows = fnn.Part(jnp.ones((4, 2)), jnp.ones((4, 1)))
    >>> net, loss = fnn.serial(fnn.dense(1)), fnn.losses.squared_error
    >>> recipe = Recipe(net, loss, optax.sgd(0.5), None, fnn.autodiff, (), None, True, "mean", "loss", "min")
    >>> one, numbers = shared(recipe, {}, rows)
    >>> other, more = shared(recipe._replace(optimizer=optax.sgd(0.25)), {}, rows)
    >>> print(one == other, numbers["optimizer"], more["optimizer"])
    True [-0.5] [-0.25]
    """
    if len(_known) > 1024:
        _known.clear()
    functions = part_functions(recipe, settings, part, params)
    optimizer, numbers = _same_optimizer(recipe.optimizer, functions, settings)
    same = recipe._replace(
        net=recipe.net if isinstance(recipe.net, Layer) else _same("net", recipe.net, functions),
        loss=recipe.loss if isinstance(recipe.loss, Loss) else _same("loss", recipe.loss, functions),
        optimizer=optimizer,
        penalty=recipe.penalty if isinstance(recipe.penalty, Penalty) else _same("penalty", recipe.penalty, functions),
        metrics=tuple((name, _same(f"metrics.{name}", metric, functions)) for name, metric in recipe.metrics),
    )
    return same, settings | numbers


def _same(name: str, thing: Any, functions: dict[str, Function]) -> Any:
    """The first thing of that name whose function computes the same; itself where it is there for good anyway."""
    if name not in functions or "<" not in getattr(thing, "__qualname__", "<"):  # no lambda, and of no other function
        return thing
    found = traced(functions[name].call, *functions[name].arguments)
    return _known.setdefault((name, found.digest), thing) if found.exact else thing


def _same_optimizer(optimizer: Any, functions: dict[str, Function], settings: Any) -> tuple[Any, dict[str, Any]]:
    """The optimizer as a function of the settings, the first that computes the same but for numbers; and its numbers.

    An optimizer whose program has no description (it calls back to the host, say) stays what it is.
    """
    start, step = (
        traced(functions[name].call, *functions[name].arguments, lift=True)
        for name in ("optimizer.init", "optimizer.update")
    )
    if not (start.exact and step.exact):
        return optimizer, {}
    names, split = tuple(settings), len(start.numbers)

    def lifted(settings: Any) -> optax.GradientTransformation:
        own = {name: settings[name] for name in names}
        numbers = [settings[NUMBERS][i] for i in range(split + len(step.numbers))]  # here: outside of the loop
        return optax.GradientTransformation(
            lambda params: start.call(numbers[:split], own, params),
            lambda grads, state, params=None: step.call(numbers[split:], own, grads, state, params),
        )

    values = np.asarray([*start.numbers, *step.numbers], jnp.result_type(float))
    return _known.setdefault(("optimizer", start.digest, step.digest), lifted), {NUMBERS: values}
