"""Does the network's output match the loss: logits or probabilities? A mismatch raises no error and trains badly."""

from typing import Any

import jax
import numpy as np

from fnn.activations.elementwise import Activation, sigmoid, softmax
from fnn.data.warnings import warn
from fnn.factories import Spec
from fnn.layers.combinators import from_function, residual
from fnn.runs import TrainState
from fnn.types import Layer, Loss

ROWS = 64
ON_LOGITS = {  # what a loss on probabilities would be on logits
    "one-hot": "softmax_cross_entropy",
    "labels": "sparse_softmax_cross_entropy",
    "binary": "sigmoid_cross_entropy",
}


def warn_if_output_mismatch(net: Layer, loss: Loss, state: TrainState | None, x: jax.Array) -> None:
    """Warn where a loss on logits is handed probabilities, or a loss on probabilities what a dense layer puts out.

    Goes by the last layer, and where that is the user's own by the first outputs: whether their rows sum to 1.

    Args:
        net: the network.
        loss: its loss, which says what it wants (`loss.outputs`).
        state: the state before the first step; None: go by the last layer alone.
        x: inputs.
    """
    last, factory = _last_layer(net)
    logits, one_of_many = loss.outputs == "logits", loss.targets in ("one-hot", "labels")
    if logits and one_of_many and factory == "dense" and last.startswith("dense(1") and last[7] in ",)":
        warn(
            f"loss: {loss} expected one output per class, got a single one, whose softmax is 1 whatever it is. "
            "Use sigmoid_cross_entropy or sigmoid_focal for two classes, or dense(2)."
        )
    elif logits:
        if last in ("softmax", "sigmoid") or (
            factory is None and state is not None and _sums_to_1(net, state, x[:ROWS])
        ):
            what = last if last in ("softmax", "sigmoid") else "probabilities, rows that sum to 1"
            warn(
                f"loss: {loss} expected logits, got {what} from the end of the network. "
                "Leave that layer out: the loss has it in itself. Apply it to what predict returns."
            )
    elif loss.outputs == "probabilities" and factory == "dense":
        warn(
            f"loss: {loss} expected probabilities, got any numbers from {last} at the end of the network. "
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
    if loss.outputs != "logits" or loss.targets is None:
        return _identity
    return sigmoid if loss.targets == "binary" else softmax


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


def _sums_to_1(net: Layer, state: TrainState, x: jax.Array) -> bool:
    forward = jax.jit(lambda params, state, x: net.forward(params, state, x, None, False)[0])
    y = np.asarray(forward(state.params, state.state, x), np.float64)
    return y.ndim == 2 and y.shape[1] > 1 and bool((y >= 0).all()) and bool(np.allclose(y.sum(1), 1.0, atol=1e-3))
