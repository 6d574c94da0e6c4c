"""Networks of one structure whose widths and activations differ, as one network with a number for each.

`serial(dense(8), tanh, dense(2))` and `serial(dense(16), tanh, dense(2))` are one network of width 16: the narrow one
begins with the weights that it has by itself, and zeros in the columns that it lacks. A column of zeros gives
`tanh(0) = 0`, which the next layer multiplies by rows of zeros. So outputs are those of the narrow network, and the
derivatives by the padding are 0: `dw = xᵀ dy` has a column of `x` or of `dy` that is 0. Where an activation is not 0
at 0 (`sigmoid`), its padding is set to 0.
"""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fnn.activations import elu, gelu, leaky_relu, relu, selu, sigmoid, silu, softplus, softsign, tanh
from fnn.activations.elementwise import Activation
from fnn.factories import Spec, call_factory, origin
from fnn.layers.combinators import as_layer, serial
from fnn.layers.linear import dense
from fnn.layers.passes import init_layer
from fnn.optimizers.protocol import init_optimizer
from fnn.runs import Run
from fnn.studies.padding.layers import Widths, chosen_activation, cut, is_zero_at_zero, padded_dense
from fnn.training.config import resolve
from fnn.types import (
    Layer,
    OfSettings,
    OptimizerState,
    Params,
    Settings,
    Shape,
    State,
)

NUMBER = "number of the shape"  # the setting that says which of its networks a member trains; no user's name has spaces

KNOWN = tanh, relu, silu, gelu, selu, softsign, sigmoid, softplus  # each works on single numbers
WITH_SLOPE = leaky_relu, elu


class Family(NamedTuple):
    """Networks of one structure.

    - `nets`: the networks.
    - `layers`: those of the widest, without a number.
    - `dense`: position -> of each network, how wide the dense layer there is and, where that differs, what comes in.
    - `kinds`: position -> the activation of each network there, where they differ or are not 0 at 0 in padding.
    """

    nets: tuple[Layer, ...]
    layers: tuple[Layer, ...]
    dense: dict[int, Widths]
    kinds: dict[int, tuple[list[Activation], list[int] | None]]

    def network(self, settings: Settings) -> Layer:
        """The widest network, begun as that of the number in the settings."""
        number: Any = settings[NUMBER]
        number = number.astype(jnp.int32) if isinstance(number, jax.core.Tracer) else int(number)
        layers = list(self.layers)
        for position, widths in self.dense.items():
            layers[position] = padded_dense(layers[position], widths, number)
        for position, (kinds, each) in self.kinds.items():
            layers[position] = chosen_activation(kinds, each, number)
        return serial(*layers)

    def widest(self) -> Layer:
        """As wide as the widest everywhere, begun as such a network is by itself."""
        return serial(*self.layers)

    def narrowest(self) -> Layer:
        """As narrow as the narrowest wherever widths differ: no other network has so much padding."""
        layers = list(self.layers)
        for position, (features, _) in self.dense.items():
            layers[position] = call_factory(dense, {**dict(layers[position].spec.arguments), "features": min(features)})
        return serial(*layers)

    def most_kinds(self) -> int:
        """How many different activations there are in one place, at most."""
        return max((len(set(kinds)) for kinds, _ in self.kinds.values()), default=1)

    def weights(self, in_shape: Shape) -> list[int]:
        """How many weights each network has, but for those that are the same in all."""
        whole = jax.eval_shape(lambda: init_layer(self.widest(), jax.random.key(0), in_shape)[0])
        counts = [0] * len(self.nets)
        for position, (features, inputs) in self.dense.items():
            rows = inputs or [whole[position]["w"].shape[0]] * len(features)
            counts = [count + fan_in * width for count, fan_in, width in zip(counts, rows, features, strict=True)]
        return counts


def structure(net: Layer) -> Hashable | None:
    """What networks of one family have in common; None where there is no family.

    >>> import fnn
    >>> from fnn.studies.padding.networks import structure
    >>> one, two = (fnn.serial(fnn.dense(width), fnn.tanh, fnn.dense(2)) for width in (8, 16))
    >>> structure(one) == structure(two), structure(one) == structure(fnn.serial(fnn.dense(2)))
    (True, False)
    """
    if _factory(net) is not serial:
        return None
    layers = [as_layer(layer) for layer in net.layers]
    outputs = [layer.spec for layer in layers if _factory(layer) is dense][-1:]  # whose width is that of the network

    def of(layer: Layer) -> Hashable:
        if _factory(layer) is dense:
            return Spec(dense, tuple(_rest(layer).items()))
        return "activation" if _activation(layer) is not None else layer

    return tuple(map(of, layers)), tuple(outputs)


def family(nets: Sequence[Layer]) -> Family | None:
    """Networks as one, where all are `serial` of the same layers but for widths and activations; else None.

    Widths may differ where the next layer with weights is `dense` too, with activations of `fnn` between them, each of
    which works on single numbers.

    >>> import fnn
    >>> from fnn.studies.padding.networks import family
    >>> nets = [fnn.serial(fnn.dense(width), fnn.tanh, fnn.dense(2)) for width in (8, 16)]
    >>> family(nets).weights((3,)), family([nets[0], fnn.serial(fnn.dense(3))])
    ([40, 80], None)
    """
    if structure(nets[0]) is None or any(structure(net) != structure(nets[0]) for net in nets):
        return None
    rows = [tuple(map(as_layer, net.layers)) for net in nets]
    wide: list[Layer] = []
    widths: dict[int, Widths] = {}
    kinds: dict[int, tuple[list[Activation], list[int] | None]] = {}
    padded: list[int] | None = None  # widths of what comes in, where they differ
    for position, layers in enumerate(zip(*rows, strict=True)):
        chosen = [kind for layer in layers if (kind := _activation(layer)) is not None]
        place = 0
        if len(chosen) == len(layers):
            if len(set(chosen)) > 1 or (padded and not is_zero_at_zero(chosen[0])):
                kinds[position] = chosen, padded
        elif all(_factory(layer) is dense for layer in layers):
            features = [dict(layer.spec.arguments)["features"] for layer in layers]
            place, differ = int(np.argmax(features)), len(set(features)) > 1
            if padded or differ:
                widths[position] = Widths(features, padded)
            padded = features if differ else None
        elif padded:
            return None
        wide.append(layers[place])
    return Family(tuple(nets), tuple(wide), widths, kinds) if widths or kinds else None


def _factory(layer: Layer) -> Any:
    made = origin(layer)  # None where one of its functions was replaced
    return None if made is None else made.factory


def _rest(layer: Layer) -> dict[str, Any]:
    """The arguments of a dense layer but for its width."""
    return {name: value for name, value in layer.spec.arguments if name != "features"}


def _activation(layer: Layer) -> Activation | None:
    """The activation of fnn, one that works on single numbers, that stands here as a layer."""
    made = origin(layer)
    thing = None if made is None else dict(made.arguments).get("thing")
    if not isinstance(thing, Activation):
        return None
    sloped = isinstance(thing.spec, Spec) and thing.spec.factory in WITH_SLOPE
    one_slope = sloped and isinstance(dict(thing.spec.arguments)["alpha"], (int, float))
    return thing if one_slope or any(thing is known for known in KNOWN) else None


def narrow_run(run: Run, nets: Family, optimizer: OfSettings[optax.GradientTransformation]) -> Run:
    """A run of a padded network, on the host, as one of its own network.

    Args:
        run: of the widest network.
        nets: of which it is one.
        optimizer: that of the run.
    """
    state = run.train_state
    settings = {name: value for name, value in state.settings.items() if name != NUMBER}
    net = nets.nets[int(state.settings[NUMBER])]

    def begin() -> tuple[Params, State, OptimizerState]:
        params, layers, _ = init_layer(net, jax.random.key(0), run.in_shape or ())
        made = resolve("optimizer", optimizer, optax.GradientTransformation, state.settings)
        return params, layers, init_optimizer(made, params)

    like = jax.eval_shape(begin)
    params, layers = cut((run.params, run.state), like[:2])
    own = dict(
        zip(("params", "state", "optimizer"), cut((state.params, state.state, state.optimizer), like), strict=True)
    )
    best = cut(state.best, like[:2]) if state.best else state.best
    return run._replace(params=params, state=layers, train_state=state._replace(**own, settings=settings, best=best))
