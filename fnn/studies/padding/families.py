"""Which shapes of a study are worth one program, and whether all else in their runs lets padding change nothing."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fnn.arguments.leaves import example_shape
from fnn.compilation.components import optimizer_functions, penalty_function
from fnn.gradients.cost import autodiff, backprop
from fnn.layers.passes import init_layer
from fnn.losses.reduction import dtype_of_sums
from fnn.studies.padding.influence import NONE, ZERO, InfluenceError, Padding, follow
from fnn.studies.padding.networks import NUMBER, Family, family, structure
from fnn.training.batches import padded_rows
from fnn.training.config import TrainerConfig, resolve, takes_settings, trainer_config
from fnn.training.state import dtype_of
from fnn.types import Layer, Loss, Params, Part, Penalty, Settings

PROGRAM = 0.25  # seconds to trace and compile a small dense network's run, measured: 0.2 to 0.5
PRODUCT = 1e-10  # seconds of a multiplication and an addition, and of what else a wider network does per weight and row

FIXED = (Layer, Loss, Penalty, optax.GradientTransformation, type(None))


class UnknownSettingError(Exception):
    """A part of a run reads a setting that may not change it."""


class VisibleSettings(dict[str, Any]):
    """Settings without some of those that there are: whoever asks for these, or for all, gets an error."""

    def __init__(self, settings: Mapping[str, Any], hidden: Sequence[str]) -> None:
        super().__init__(settings)
        self._hidden = frozenset(hidden)

    def _check(self, name: Any = None) -> None:
        if name is None or name in self._hidden:
            raise UnknownSettingError(f"{name or 'all settings'}: expected settings that are no shape's, got others.")

    def __getitem__(self, name: str) -> Any:
        self._check(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As a dict does."""
        self._check(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self._check(name)
        return super().__contains__(name)

    def _refuse(self, *others: Any, **more: Any) -> Any:
        self._check()

    __iter__ = keys = values = items = copy = pop = setdefault = __or__ = __ror__ = __len__ = __eq__ = _refuse


@dataclasses.dataclass(frozen=True)
class WithoutSettings:
    """A function of the settings that is called without some of them, whose names it must not ask for."""

    function: Callable[[Mapping[str, Any]], Any]
    hidden: tuple[str, ...]

    def __call__(self, settings: Mapping[str, Any]) -> Any:
        """What the function makes."""
        return self.function(VisibleSettings(settings, self.hidden))


def _without_settings(part: Any, hidden: tuple[str, ...]) -> Any:
    """A loss, an optimizer or a penalty that must not depend on these settings; what is no function, as it is."""
    of_settings = not isinstance(part, FIXED) and callable(part) and takes_settings(part)
    return WithoutSettings(part, hidden) if of_settings else part


class ShapeTasks(NamedTuple):
    """What a study has of one shape: the settings that make it, and of each task all settings and its place."""

    shape: dict[str, int]
    settings: list[dict[str, Any]]
    places: list[int]


class Joined(NamedTuple):
    """Shapes that one program trains.

    - `family`: their networks.
    - `parts`: network, loss and optimizer, none of which asks for a setting that makes a shape.
    - `penalty`: likewise.
    - `same`: the settings of these shapes that are arguments of `fit`.
    - `settings`: of each task, with the number of its network in the place of those that make its shape.
    - `places`: of these tasks.
    """

    family: Family
    parts: tuple[Any, Any, Any]
    penalty: Any
    same: dict[str, int]
    settings: list[dict[str, Any]]
    places: list[int]


def join_shapes(
    parts: tuple[Any, Any, Any],
    shapes: Sequence[ShapeTasks],
    training: Mapping[str, Any],
    own: Collection[str],
    part: Part,
    epochs: int,
) -> list[Joined]:
    """Which shapes of a study share a program; those left out have one each.

    Args:
        parts: network, loss, optimizer.
        shapes: all there are.
        training: the other arguments of `fit`.
        own: the settings that are such arguments.
        part: the rows to train on.
        epochs: of each task.
    """
    net, loss, optimizer = parts
    if isinstance(net, Layer) or not callable(net):
        return []
    making = tuple(name for name in shapes[0].shape if name not in own)  # the settings that make a shape
    others = [name for name in shapes[0].settings[0] if name not in making]
    loss, optimizer, penalty = (
        _without_settings(thing, making) for thing in (loss, optimizer, training.get("penalty"))
    )
    joined = []
    for some, nets in _alike(net, shapes, making, (*others, *(training.get("settings") or {}))):
        padded = family(nets)
        if padded is None or not _is_worth_it(padded, some, part, epochs):
            continue
        same = {name: value for name, value in some[0].shape.items() if name not in making}
        settings = [_with_number(one, making, number) for number, shape in enumerate(some) for one in shape.settings]
        places = [place for shape in some for place in shape.places]
        config = trainer_config(
            padded.network, loss, optimizer, penalty=penalty, gradient=training.get("gradient", autodiff),
            batch_size=same.get("batch_size", training.get("batch_size")),
        )  # fmt: skip
        if padding_changes_nothing(config, padded, {**(training.get("settings") or {}), **settings[0]}, part):
            joined.append(Joined(padded, (padded.network, loss, optimizer), penalty, same, settings, places))
    return joined


def _with_number(settings: Mapping[str, Any], making: Sequence[str], number: int) -> dict[str, Any]:
    """The settings of a task, with the number of its network in the place of those that make its shape."""
    return {name: value for name, value in settings.items() if name not in making} | {NUMBER: float(number)}


def _alike(
    net: Any, shapes: Sequence[ShapeTasks], making: Sequence[str], others: Sequence[str]
) -> Iterator[tuple[list[ShapeTasks], list[Layer]]]:
    """Shapes whose networks have one structure, and that have the same arguments of `fit`; and their networks."""
    alike: dict[Any, tuple[list[ShapeTasks], list[Layer]]] = {}
    for shape in shapes:
        made = net(VisibleSettings({name: shape.shape[name] for name in making}, others))
        known = structure(made) if isinstance(made, Layer) else None
        if known is not None:
            same = tuple((name, value) for name, value in shape.shape.items() if name not in making)
            some, nets = alike.setdefault((known, same), ([], []))
            some.append(shape)
            nets.append(made)
    return (both for both in alike.values() if len(both[0]) > 1)


def _is_worth_it(nets: Family, shapes: Sequence[ShapeTasks], part: Part, epochs: int) -> bool:
    """Whether one padded program takes less time than one for each shape, by counts.

    A step has three products of each weight matrix with the batch: forward, by the weights, by the inputs.
    """
    weights, rows = nets.weights(example_shape(part.x)), epochs * padded_rows(part)
    more = 3 * sum((max(weights) - own) * rows * len(shape.places) for own, shape in zip(weights, shapes, strict=True))
    return more * PRODUCT < PROGRAM * (len(weights) - 1)


# ---- what else a run has


def padding_changes_nothing(config: TrainerConfig, nets: Family, settings: Mapping[str, Any], part: Part) -> bool:
    """Whether gradient, optimizer and penalty leave padding 0, and make of it nothing that counts elsewhere."""
    if config.gradient not in (autodiff, backprop):
        return False
    named: Any = {name: jax.ShapeDtypeStruct((), jnp.result_type(float)) for name in settings}
    wide, narrow = (_parameters(net, part) for net in (nets.widest(), nets.narrowest()))
    try:
        _follow_optimizer(config, named, wide, narrow)
        if config.penalty is not None:
            _follow_penalty(config, named, wide, narrow)
    except InfluenceError:
        return False
    return True


def _parameters(net: Layer, part: Part) -> Params:
    """Shapes and dtypes."""
    return jax.eval_shape(lambda: init_layer(net, jax.random.key(0), example_shape(part.x))[0])


def _kinds(settings: Settings, params: Params) -> tuple[list[Padding], list[Padding]]:
    """What stands in the padding of settings and of parameters, a leaf each."""
    return [NONE] * len(settings), [ZERO] * len(jax.tree.leaves(params))


def _follow_optimizer(config: TrainerConfig, settings: Settings, wide: Params, narrow: Params) -> None:
    """Raise where an optimizer may move padding, or be moved by it."""
    init, update = optimizer_functions(config)
    plain, zeros = _kinds(settings, wide)
    kinds = follow(init, (settings, wide), (settings, narrow), [*plain, *zeros])
    value = jax.ShapeDtypeStruct((), dtype_of_sums(dtype_of(wide)))
    states = [jax.eval_shape(init, settings, params) for params in (wide, narrow)]
    ours, theirs = ((settings, w, state, w, value) for w, state in zip((wide, narrow), states, strict=True))
    while True:
        made = follow(update, ours, theirs, [*plain, *zeros, *kinds, *zeros, NONE])
        updates, after = made[: len(zeros)], made[len(zeros) :]
        if any(kind not in (NONE, ZERO) for kind in updates):
            raise InfluenceError("update: padding may move")
        joined = [one if one is other else Padding.ANY for one, other in zip(kinds, after, strict=True)]
        if joined == kinds:
            return
        kinds = joined


def _follow_penalty(config: TrainerConfig, settings: Settings, wide: Params, narrow: Params) -> None:
    """Raise where a penalty, or its derivative by hand or by autodiff, may depend on padding."""

    def by_autodiff(settings: Settings, params: Params) -> Params:
        return jax.grad(resolve("penalty", config.penalty, Penalty, settings).value)(params)

    plain, zeros = _kinds(settings, wide)
    for function in (penalty_function(config), by_autodiff):
        made = follow(function, (settings, wide), (settings, narrow), [*plain, *zeros])
        if any(kind not in (NONE, ZERO) for kind in made):
            raise InfluenceError("penalty: padding may move")
