"""Does the network's output match the loss: logits or probabilities? A mismatch raises no error and trains badly."""

import re
from typing import Any

import jax
import numpy as np

from fnn.activations.elementwise import Activation, sigmoid, softmax
from fnn.data.warnings import warn
from fnn.factories import Spec
from fnn.layers.combinators import from_function, residual
from fnn.runs import TrainState
from fnn.types import Layer

LOGITS = re.compile(r"\b(sparse_)?(softmax|sigmoid)_(cross_entropy|focal)\b")
PROBABILITIES = re.compile(r"\b(sparse_|binary_)?cross_entropy\b")
ROWS = 64


def warn_if_output_mismatch(net: Layer, loss: str, state: TrainState | None, x: jax.Array) -> None:
    """Warn where a loss on logits is handed probabilities, or a loss on probabilities what a dense layer puts out.

    Goes by the last layer, and where that is the user's own by the first outputs: whether their rows sum to 1.

    Args:
        net: the network.
        loss: its name.
        state: the state before the first step; None: go by the last layer alone.
        x: inputs.
    """
    last, factory = _last_layer(net)
    if last.startswith("dense(1") and factory == "dense" and last[7] in ",)" and "softmax" in loss:
        warn(
            f"loss: {loss} expected one output per class, got a single one, whose softmax is 1 whatever it is. "
            f"Use {'sigmoid_focal' if 'focal' in loss else 'sigmoid_cross_entropy'}, or dense(2).",
        )
    elif LOGITS.search(loss):
        if last in ("softmax", "sigmoid") or (
            factory is None and state is not None and _sums_to_1(net, state, x[:ROWS])
        ):
            what = last if last in ("softmax", "sigmoid") else "probabilities, rows that sum to 1"
            warn(
                f"loss: {loss} expected logits, got {what} from the end of the network. "
                "Leave that layer out: the loss has it in itself. Apply it to what predict returns.",
            )
    elif PROBABILITIES.search(loss) and factory == "dense":
        logits = "sigmoid_cross_entropy" if "binary" in loss else loss.replace("cross_entropy", "softmax_cross_entropy")
        warn(
            f"loss: {loss} expected probabilities, got any numbers from {last} at the end of the network. "
            f"Use {logits}, or end the network with {'sigmoid' if 'binary' in loss else 'softmax'}.",
        )


def to_probabilities(loss: str) -> Any:
    """What makes probabilities of a network's outputs, going by the name of its loss: softmax, sigmoid, or nothing.

    >>> from fnn.fitting.output_kinds import to_probabilities
    >>> to_probabilities("sparse_softmax_cross_entropy")
    softmax
    """
    found = LOGITS.search(loss)
    return _identity if found is None else softmax if found[2] == "softmax" else sigmoid


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
