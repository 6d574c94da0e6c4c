"""Compiled programs, remembered: one for every run that computes the same, whatever its numbers, seeds and data.

What a run is made of (a network, a loss, an optimizer, a metric) is known by what it computes now: a user's functions
are traced at each call, since what they read may have changed. A program keeps the operations that were traced, and
none of the functions: so it computes later what it was known by.
"""

import functools
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fnn.arguments import trees
from fnn.arguments.constants import is_constant
from fnn.compilation.cache import memoise, programs
from fnn.compilation.components import Component, components
from fnn.compilation.fingerprints import Fingerprint, fingerprint
from fnn.compilation.frozen import Frozen, freeze
from fnn.data.warnings import warn
from fnn.devices.memory import trim_heap
from fnn.devices.placement import put_everywhere
from fnn.devices.threads import Task, never, results
from fnn.kernels.compiler_options import quick_compile_options
from fnn.kernels.effort import count_work, effort_options
from fnn.layers.passes import forward_layer
from fnn.losses.aggregation import JOINT, figure_of_batch
from fnn.losses.reduction import row_values
from fnn.runs import History, TrainState
from fnn.training.config import OPTIMIZER_NUMBERS, TrainerConfig, resolve, resolve_loss
from fnn.training.fused_loop import build_trainer
from fnn.training.layout import Layout, init_shardings, run_shardings
from fnn.types import Data, Layer, OfSettings, Params, Part, Settings, State, Tree

MOMENT = 0.5  # seconds after which a compiler that was to end is left alone: it hears nothing in the midst of its work


class Program:
    """A training run for one shape of data.

    Args:
        init: compiled when it is first called.
        run: as it was traced.
        state: shapes and dtypes of what `init` returns.
        outputs: likewise, of the network, for the rows to train and to validate on.
        layout: how arguments and results lie on several devices.
    """

    def __init__(
        self,
        init: Callable[..., TrainState],
        run: Frozen,
        state: TrainState,
        outputs: list[Any],
        layout: Layout | None = None,
    ) -> None:
        self.init, self.state, self.outputs, self._run, self._layout = init, state, outputs, run, layout
        self.history: History = run.shapes[1]  # shapes and dtypes
        self.bytes, self.work = run.bytes, count_work(run.jaxpr)
        self._by_effort: dict[str, Callable[..., Any]] = {}
        self.compiled: set[str] = set()

    def run(self, effort: str) -> Callable[..., Any]:
        """The run, compiled with this effort when it is first called. It donates the state, never the data."""
        if effort not in self._by_effort:
            options = effort_options(effort, self.work)
            where = run_shardings(self._layout, self.state)
            put = functools.partial(put_everywhere, self._layout)
            self._by_effort[effort] = self._run.jit(donates=True, put=put, compiler_options=options, **where)
        return self._by_effort[effort]


@memoise
def trainer_for(config: TrainerConfig, structure: jax.tree_util.PyTreeDef, shapes: tuple[Any, ...]) -> Program:
    """The program of an identified config for `init`'s arguments of this structure and these shapes; traced now."""
    pure = build_trainer(config)
    arguments = jax.tree.unflatten(structure, shapes)
    init = freeze(pure.init, arguments)
    outputs = output_shapes(config, init.shapes, arguments[1])
    none = jax.ShapeDtypeStruct((), np.int32)
    run = freeze(pure.run, (init.shapes, arguments[1], none, none))
    where = init_shardings(config.layout, init.shapes)
    put = functools.partial(put_everywhere, config.layout)
    jitted = init.jit(put=put, compiler_options=quick_compile_options(), **where)
    return Program(jitted, run, init.shapes, outputs, config.layout)


@memoise
def outputs_for(
    config: TrainerConfig, structure: jax.tree_util.PyTreeDef, shapes: tuple[Any, ...]
) -> tuple[TrainState, list[Any]]:
    """The state, and `output_shapes`, of an identified config for `init`'s arguments of these shapes."""
    arguments = jax.tree.unflatten(structure, shapes)
    state = jax.eval_shape(build_trainer(config).init, *arguments)
    return state, output_shapes(config, state, arguments[1])


def output_shapes(config: TrainerConfig, state: TrainState, rows: Data) -> list[Any]:
    """The shapes and dtypes of the outputs for each part of the rows; targets of a wrong shape raise."""

    def outputs(settings: Settings, params: Params, layers: State, rows: Data) -> list[Any]:
        net, loss = resolve("net", config.net, Layer, settings), resolve_loss(config.loss, settings)
        of_parts = []
        for part in (part for part in rows if part is not None):
            of_parts.append(forward_layer(net, params, layers, part.x, None, False)[0])
            row_values("loss", loss.value, of_parts[-1], part.t, True)
            for name, metric in config.metrics:
                if isinstance(metric, JOINT):
                    figure_of_batch(name, metric, of_parts[-1], part.t)
        return of_parts

    shapes: list[Any] = jax.eval_shape(outputs, state.settings, state.params, state.state, rows)
    return shapes


def canonical(
    name: Hashable, parts: tuple[Any, ...], function: Callable[..., Any], *arguments: Tree
) -> tuple[Any, Any]:
    """`function`, jitted for arguments of such shapes, or one that was, if it computes the same; and what it returns.

    Args:
        name: what it does, as opposed to other functions of the same parts.
        parts: what it is made of. If none of it can change it is known by these; else it is traced to see.
        function: of arrays.
        arguments: arrays, or their shapes and dtypes.

    Returns:
        the function; the shapes and dtypes of what it returns.
    """
    if is_constant(parts):
        leaves, structure = jax.tree.flatten(arguments)
        key: Any = (parts, structure, tuple([(a.shape, a.dtype) for a in leaves]), _configuration())
    else:
        key = (fingerprint(function, *arguments).identity, _configuration())

    def make() -> tuple[Callable[..., Any], Frozen]:
        frozen = freeze(function, arguments)
        return frozen.jit(), frozen

    compiled, frozen = programs.get((name, key), make, lambda made: made[1].bytes)
    return compiled, frozen.shapes


def compile_with(lowered: Any, options: dict[str, Any]) -> Any:
    """Compile with these options, or without, where XLA does not know them (any more)."""
    try:
        return lowered.compile(options)
    except RuntimeError:
        return lowered.compile()


def compile_in_parallel(
    lowerings: Iterable[Callable[[], Callable[[], Any]]], must_stop: Callable[[], bool] = never
) -> list[Any]:
    """Compile several functions at a time, each in a thread of its own: XLA leaves Python to others meanwhile.

    Args:
        lowerings: each lowers its function in this thread, and returns what compiles it.
        must_stop: whether to give up.

    Raises:
        Interrupted: the program was asked to stop. What compiles then goes on to its end, for nobody.
    """
    compiled = results([Task(lower(), "fnn compile") for lower in lowerings], must_stop, MOMENT)
    if compiled:
        trim_heap()  # the compiler's memory is free, in pieces between which no array of rows fits
    return compiled


def signature(tree: Tree) -> tuple[Any, tuple[Any, ...]]:
    """What a program is compiled for: a tree's structure, and the shapes and dtypes of its leaves. Hashable."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple(jax.ShapeDtypeStruct(np.shape(a), jnp.result_type(a)) for a in leaves)


def _configuration() -> tuple[Any, ...]:
    """What JAX is set to that a program depends on."""
    names = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl", "jax_threefry_partitionable")
    return tuple(getattr(jax.config, name, None) for name in names)


def precompile(
    program: Program,
    wanted: Iterable[str],
    arguments: tuple[Any, ...],
    data: Data,
    must_stop: Callable[[], bool] = never,
) -> None:
    """Compile, at once, those of the wanted functions that have not been: calls find them compiled.

    Args:
        program: the run.
        wanted: "init", or an effort with which to compile the run.
        arguments: of `init`.
        data: of the run.
        must_stop: whether to give up.

    Raises:
        Interrupted: the program was asked to stop.
    """
    missing = [name for name in wanted if name not in program.compiled]
    if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
        return

    def lower(name: str) -> Callable[[], Any]:
        function: Any = program.init if name == "init" else program.run(name)
        none = np.int32(0)
        given = arguments if name == "init" else (program.state, data, none, none)
        compile_it: Callable[[], Any] = function.lower(*given).compile
        return compile_it

    compile_in_parallel([functools.partial(lower, name) for name in missing], must_stop)
    program.compiled.update(missing)


def identify(
    config: TrainerConfig, settings: dict[str, Any], part: Part, params: Params = None
) -> tuple[TrainerConfig, dict[str, Any]]:
    """The config, known by what its parts compute now; and the settings for it.

    Two recipes of one identity have the same program. The optimizer becomes a function of the settings that takes its
    numbers from there, so that another learning rate is another setting, and not another program.

    Args:
        config, settings: as asked for.
        part: the rows it trains on, or their shapes and dtypes.
        params: the parameters it starts from, if given.

    >>> import fnn, jax.numpy as jnp, optax
    >>> from fnn.training.config import TrainerConfig, resolve, resolve_loss
    >>> from fnn.compilation.programs import identify
    >>> rows = fnn.Part(jnp.ones((4, 2)), jnp.ones((4, 1)))
    >>> net, loss = fnn.serial(fnn.dense(1)), fnn.losses.squared_error
    >>> config = TrainerConfig(net, loss, optax.sgd(0.5), None, fnn.autodiff, (), None, True, "mean", "loss", "min")
    >>> one, numbers = identify(config, {}, rows)
    >>> other, more = identify(config._replace(optimizer=optax.sgd(0.25)), {}, rows)
    >>> print(one == other, numbers["optimizer"], more["optimizer"])
    True [-0.5] [-0.25]
    """
    functions = components(config, settings, part, params)
    optimizer, known, numbers = _lift(config.optimizer, functions, settings)
    things = {"net": config.net, "loss": config.loss, "penalty": config.penalty, "gradient": config.gradient}
    things |= {f"metrics.{name}": metric for name, metric in config.metrics}
    identity = {name: _identity(name, thing, functions) for name, thing in things.items()}
    identity |= {"optimizer": known, "settings": tuple(settings), "configuration": _configuration()}
    return config._replace(optimizer=optimizer, identity=tuple(identity.items())), settings | numbers


def _identity(name: str, thing: object, functions: dict[str, Component]) -> Hashable:
    """What a part is known by: itself where it cannot change, else its program; and its gradient's, if that has a
    rule of its own."""
    if is_constant(thing):
        return thing
    found = fingerprint(functions[name].call, *functions[name].arguments)
    if name == "gradient" or name.startswith("metrics.") or not found.has_rules:
        return found.identity
    return found.identity, fingerprint(functions["gradient"].call, *functions["gradient"].arguments).identity


def _warn_of_ascent(step: Fingerprint, update: Component) -> None:
    """Warn where the update of a parameter is its gradient as it came, as that of what `optax.masked` leaves out."""
    first = len(jax.tree.leaves(update.arguments[0]))  # the settings come before the gradients
    names = list(trees.flatten_named(update.arguments[1], "params"))
    climbing = [names[i] for i, place in step.passed if i < len(names) and place == first + i]
    if climbing:
        shown = ", ".join(climbing[:3]) + (f" and {len(climbing) - 3} more" if len(climbing) > 3 else "")
        warn(
            f"optimizer: expected steps down the gradient, got the gradient itself as the update of {shown}, so that "
            "the cost climbs; optax.masked leaves what it masks out as it is, proximal_l1 with a learning rate goes "
            "down no gradient. Use optax.partition, with optax.set_to_zero() for what is to stay; put optax.sgd before "
            "proximal_l1 in optax.chain."
        )


def _lift(
    optimizer: OfSettings[optax.GradientTransformation], functions: dict[str, Component], settings: Settings
) -> tuple[Any, Any, dict[str, Any]]:
    """The optimizer as a function of the settings, what it is known by but for numbers, and its numbers.

    An optimizer whose program has no description (it calls back to the host, say) stays what it is; and so does one
    that asks for the cost of its batch.
    """
    start, step = (  # of the update, whose first results are updates in the order of its gradients
        fingerprint(functions[name].call, *functions[name].arguments, lift=True, spare=functions[name].spare)
        for name in ("optimizer.init", "optimizer.update")
    )
    _warn_of_ascent(step, functions["optimizer.update"])
    if step.uses_spare or not (start.exact and step.exact):
        plain = [functions[name] for name in ("optimizer.init", "optimizer.update")]
        return optimizer, tuple(fingerprint(f.call, *f.arguments, spare=f.spare).identity for f in plain), {}
    names, split = tuple(settings), len(start.numbers)

    def of_settings(settings: Settings) -> optax.GradientTransformation:
        own = {name: settings[name] for name in names}
        numbers = [
            settings[OPTIMIZER_NUMBERS][i] for i in range(split + len(step.numbers))
        ]  # here: outside of the loop
        return optax.GradientTransformation(
            lambda params: start.call(numbers[:split], own, params),
            lambda grads, state, params=None: step.call(numbers[split:], own, grads, state, params),
        )

    values = np.asarray([*start.numbers, *step.numbers], jnp.result_type(float))
    return of_settings, (start.identity, step.identity), {OPTIMIZER_NUMBERS: values}
