"""What raises no error and trains badly: outputs that do not match the loss, a figure that is nan in all epochs."""

import functools
from typing import Any

import jax
import numpy as np

from fnn.activations.elementwise import Activation, sigmoid, softmax
from fnn.compilation.frozen import freeze
from fnn.data.warnings import warn
from fnn.factories import Spec
from fnn.layers.branches.splitting import parallel
from fnn.layers.combinators import from_function, residual
from fnn.losses.named import named_losses
from fnn.runs import History, TrainState
from fnn.types import Layer, Loss, Tree

ROWS = 64
ON_LOGITS = {  # what a loss on probabilities would be on logits
    "one-hot": "softmax_cross_entropy",
    "labels": "sparse_softmax_cross_entropy",
    "binary": "sigmoid_cross_entropy",
}


def warn_if_output_mismatch(net: Layer, loss: Loss, state: TrainState | None, x: Tree) -> None:
    """Warn where a loss on logits is handed probabilities, or a loss on probabilities what a dense layer puts out.

    Goes by the last layer, and where that is the user's own by the first outputs: whether their rows sum to 1.

    Args:
        net: the network.
        loss: its loss, which says what it wants (`loss.outputs`).
        state: the state before the first step; None: go by the last layer alone.
        x: inputs.
    """
    heads, of_heads = _heads(net), named_losses(loss)
    for name in [name for name in of_heads if name in heads]:
        _warn(f"loss of {name!r}", heads[name], of_heads[name], None, x)
    if not of_heads:
        _warn("loss", net, loss, state, x)


def _heads(net: Any) -> dict[str, Any]:
    """The layers that make each of the named outputs of a network, as far as it tells."""
    spec = getattr(net, "spec", None)
    if not isinstance(spec, Spec) or not spec.children:
        return {}
    return dict(dict(spec.arguments)["named"]) if spec.factory is parallel else _heads(spec.children[-1])


def warn_if_undefined(monitor: str, history: History) -> None:
    """Say that what epochs are judged by was nan in all of them, so that none is best."""
    figures, loss = history.validation_metrics.get(monitor, np.zeros(0)), history.validation_loss
    if len(figures) and np.isnan(figures).all() and loss is not None and np.isfinite(loss).all():
        warn(
            f"monitor: expected {monitor!r} to be a number in some epoch, got nan in all {len(figures)}, so that none "
            "is best, and the last parameters come back. Pass validation rows of every class, or monitor another one."
        )


def _warn(name: str, net: Any, loss: Loss, state: TrainState | None, x: Any) -> None:
    """Warn where the outputs of a network, or of one of its heads, are not what a loss wants."""
    last, factory = _last_layer(net)
    logits, one_of_many = loss.outputs == "logits", loss.targets in ("one-hot", "labels")
    if logits and one_of_many and factory == "dense" and last.startswith("dense(1") and last[7] in ",)":
        warn(
            f"{name}: {loss} expected one output per class, got a single one, whose softmax is 1 whatever it is. "
            "Use sigmoid_cross_entropy or sigmoid_focal for two classes, or dense(2)."
        )
    elif logits:
        if last in ("softmax", "sigmoid") or (
            factory is None and state is not None and _sums_to_1(net, state, jax.tree.map(lambda a: a[:ROWS], x))
        ):
            what = last if last in ("softmax", "sigmoid") else "probabilities, rows that sum to 1"
            warn(
                f"{name}: {loss} expected logits, got {what} from the end of the network. "
                "Leave that layer out: the loss has it in itself. Apply it to what predict returns."
            )
    elif loss.outputs == "probabilities" and factory == "dense":
        warn(
            f"{name}: {loss} expected probabilities, got any numbers from {last} at the end of the network. "
            f"Use {ON_LOGITS.get(loss.targets or '', 'a loss on logits')}, or end the network with "
            f"{'sigmoid' if loss.targets == 'binary' else 'softmax'}."
        )


def to_probabilities(loss: Loss) -> Any:
    """What makes probabilities of a network's outputs: softmax or sigmoid if its loss says which, else nothing.

    >>> import fnn
    >>> from fnn.fitting.output_kinds import to_probabilities
    >>> to_probabilities(fnn.losses.sparse_softmax_cross_entropy)
    softmax
    """
    of_heads = named_losses(loss)
    if of_heads:
        return functools.partial(_each, tuple((name, to_probabilities(one)) for name, one in of_heads.items()))
    if loss.outputs != "logits" or loss.targets is None:
        return _identity
    return sigmoid if loss.targets == "binary" else softmax


def _each(turns: tuple[tuple[str, Any], ...], y: Any) -> Any:
    return {name: turn(y[name]) for name, turn in turns}


def _identity(y: Any) -> Any:
    return y


def _last_layer(thing: Any) -> tuple[str, str | None]:
    """The name of the layer whose outputs are those of the network, and of the factory of fnn that made it, if any."""
    spec = getattr(thing, "spec", None)
    if not isinstance(spec, Spec):
        return getattr(thing, "__name__", None) or str(thing), "elementwise" if isinstance(thing, Activation) else None
    if spec.factory is from_function:
        return _last_layer(dict(spec.arguments)["function"])
    if spec.children and spec.factory is not residual:  # whose inputs are added to what its last layer puts out
        return _last_layer(spec.children[-1])
    made_by_fnn = getattr(spec.factory, "__module__", "").startswith("fnn.")
    return str(spec), spec.factory.__name__ if made_by_fnn else None


def _sums_to_1(net: Layer, state: TrainState, x: Tree) -> bool:
    given = state.params, state.state, x
    outputs = freeze(lambda params, state, x: net.forward(params, state, x, None, False)[0], given).jit()(*given)
    if isinstance(outputs, (dict, tuple)):
        return False
    y = np.asarray(outputs, np.float64)
    return y.ndim == 2 and y.shape[1] > 1 and bool((y >= 0).all()) and bool(np.allclose(y.sum(1), 1.0, atol=1e-3))
