"""Random small networks: every kind of layer, and some that no result depends on."""

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

import fnn

IMAGE = (4, 4, 1)
ACTIVATIONS = {
    "elu": fnn.elu(),
    "gelu": fnn.gelu,
    "leaky_relu": fnn.leaky_relu(0.1),
    "relu": fnn.relu,
    "selu": fnn.selu,
    "sigmoid": fnn.sigmoid,
    "silu": fnn.silu,
    "softmax": fnn.softmax,
    "softplus": fnn.softplus,
    "softsign": fnn.softsign,
    "tanh": fnn.tanh,
}
SMOOTH = [name for name in ACTIVATIONS if name not in ("leaky_relu", "relu")]


def _scale() -> fnn.Layer:
    """A layer of one's own: `y = a x`."""
    return fnn.Layer(
        "scale",
        lambda key, shape: ({"a": jnp.full(shape, 0.9)}, (), shape),
        lambda params, state, x, key, train: (params["a"] * x, state, x),
        lambda params, x, dy: ({"a": (x * dy).sum(0)}, params["a"] * dy),
    )


def _counter() -> fnn.Layer:
    """A layer that counts its training steps, in integers, and changes nothing."""
    return fnn.Layer(
        "counter",
        lambda key, shape: ((), {"steps": jnp.int32(0)}, shape),
        lambda params, state, x, key, train: (x, {"steps": state["steps"] + (1 if train else 0)}, ()),
        lambda params, cache, dy: ((), dy),
    )


def _unused() -> fnn.Layer:
    """A layer whose parameters no output depends on."""
    return fnn.Layer(
        "unused",
        lambda key, shape: ({"a": jnp.ones(3), "none": jnp.ones((0, 2))}, (), shape),
        lambda params, state, x, key, train: (x, state, ()),
        lambda params, cache, dy: ({"a": jnp.zeros(3), "none": jnp.zeros((0, 2))}, dy),
    )


class _Piece(NamedTuple):
    """Layers, and how many outputs they have."""

    layers: list[Any]
    width: int
    about: str


def _dense(r: Random, width: int) -> _Piece:
    new, name = r.randint(1, 4), r.choice(list(ACTIVATIONS))
    return _Piece([fnn.dense(new, bias=r.random() < 0.8), ACTIVATIONS[name]], new, f"dense({new}) {name}")


def _normed(r: Random, width: int) -> _Piece:
    new = r.randint(2, 4)
    norm, name = (fnn.batch_norm, "batch_norm") if r.random() < 0.6 else (fnn.layer_norm, "layer_norm")
    layer = norm(eps=r.choice([1e-2, 1e-3]), scale=r.random() < 0.7, offset=r.random() < 0.7)
    return _Piece([fnn.dense(new, bias=False), layer, ACTIVATIONS[r.choice(SMOOTH)]], new, f"dense({new}) {name}")


def _residual(r: Random, width: int) -> _Piece:
    inner = [fnn.dense(r.randint(1, 3)), ACTIVATIONS[r.choice(SMOOTH)], fnn.dense(width, weight_init=0.3)]
    return _Piece([fnn.residual(*inner)], width, "residual")


def _repeat(r: Random, width: int) -> _Piece:
    times = r.randint(1, 3)
    return _Piece([fnn.repeat(fnn.serial(fnn.dense(width), fnn.tanh), times)], width, f"repeat({times})")


def _one(about: str, layer: Callable[[Random], Any]) -> Callable[[Random, int], _Piece]:
    return lambda r, width: _Piece([layer(r)], width, about)


PIECES: dict[str, Callable[[Random, int], _Piece]] = {
    "dense": _dense,
    "dense again": _dense,
    "norm": _normed,
    "residual": _residual,
    "repeat": _repeat,
    "dropout": _one("dropout", lambda r: fnn.dropout(r.choice([0.0, 0.2, 0.5]))),
    "noise": _one("gaussian_noise", lambda r: fnn.gaussian_noise(r.choice([0.0, 0.1]))),
    "prelu": _one("prelu", lambda r: fnn.prelu()),
    "rrelu": _one("rrelu", lambda r: fnn.rrelu()),
    "scale": _one("scale", lambda r: _scale()),
    "counter": _one("counter", lambda r: _counter()),
    "unused": _one("unused", lambda r: _unused()),
    "sin": _one("sin", lambda r: jnp.sin),
    "lambda": _one("lambda", lambda r: lambda x: x * 0.5 + 0.25),
    "clip": _one("clip", lambda r: lambda x: jnp.clip(x, -1.5, 1.5)),
    "sum": _one("cumsum", lambda r: lambda x: jnp.cumsum(x, -1)),
    "constant": _one("constant", lambda r: r.choice([jnp.ones_like, lambda x: jnp.full_like(x, 0.5)])),
    "detached": _one("detached", lambda r: lax.stop_gradient),
}


class Net(NamedTuple):
    """A network, the shape of one example, and how it reads."""

    layer: Any
    in_shape: tuple[int, ...]
    about: str


def random_net(r: Random, outputs: int, ending: Any) -> Net:
    """A network of so many outputs, with this activation at its end (or None).

    Args:
        r: where chance comes from.
        outputs: how many.
        ending: what the loss wants: `fnn.sigmoid` where it is one of probabilities, say.
    """
    if r.random() < 0.04:
        layers = [fnn.conv2d(2, (2, 2)), fnn.tanh, fnn.max_pool(2), fnn.flatten(), fnn.dense(outputs)]
        return Net(fnn.serial(*layers, *_ended(ending)), IMAGE, "conv2d")
    width = r.randint(1, 4)
    in_shape, layers, about = (width,), [], []
    for _ in range(r.choice([0, 0, 1, 1, 2, 3])):
        piece = PIECES[r.choice(list(PIECES))](r, width)
        width, layers, about = piece.width, layers + piece.layers, [*about, piece.about]
    last = fnn.dense(outputs, bias=r.random() < 0.9)
    if layers and r.random() < 0.05:
        layers, about = [last, lambda x: jnp.ones_like(x) * 0.5], [*about, "constant outputs"]
    else:
        layers = [*layers, last]
    return Net(fnn.serial(*layers, *_ended(ending)), in_shape, " ".join([*about, f"dense({outputs})"]))


def _ended(ending: Any) -> list[Any]:
    return [] if ending is None else [ending]
