"""Networks to export: each layer and activation alone, and random ones; with numbers that are drawn by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from experiments.derivatives import convolutions, networks
from experiments.derivatives.activations import ACTIVATIONS
from experiments.derivatives.layers import LAYERS

KEY = jax.random.key(0)
ALONE = [c for c in (*LAYERS, *convolutions.LAYERS) if c.name != "sparse_dense"]  # which needs numbers of columns
PRODUCTS = {
    **{f"{activation}": (fnn.serial(activation), (4,)) for _, activation in ACTIVATIONS},
    **{f"{c.layer} on {c.in_shape}": (c.layer, c.in_shape) for c in ALONE},
    "sparse_dense": (fnn.serial(fnn.from_function(jnp.abs), fnn.sparse_dense(6, 3), fnn.batch_norm()), (2, 4)),
    "sparse_dense, one": (fnn.serial(fnn.from_function(jnp.abs), fnn.sparse_dense(6, 1, bias=False)), (2, 4)),
    **{title: (c.layer, c.in_shape) for title, c in zip(networks.TITLES, networks.NETWORKS, strict=True)},
    "mixed_precision": (fnn.mixed_precision(fnn.serial(fnn.dense(4), fnn.tanh)), (3,)),
}
CASES = {f"{c.layer} on {c.in_shape}": c for c in (*LAYERS, *convolutions.LAYERS)}
CHANNELWISE = [fnn.relu, fnn.tanh, fnn.gelu, fnn.silu, fnn.elu(0.7), fnn.selu, fnn.softplus, fnn.prelu(), fnn.softmax]
CHANNELWISE += [fnn.group_norm(1), fnn.group_norm(2), fnn.rms_norm()]
CHANNELWISE += [fnn.batch_norm(), fnn.layer_norm(), fnn.dropout(0.3), fnn.rescale(0.5, 0.1), fnn.leaky_relu(0.1)]


def a_run(net, in_shape, seed=0):
    """A run with random parameters, none of them 0, and variances above 0."""
    rng = np.random.default_rng(seed)
    params, state = jax.eval_shape(lambda: net.init(KEY, in_shape)[:2])
    draw = lambda a: rng.normal(0.1, 0.5, a.shape).astype(a.dtype)  # noqa: E731
    state = jax.tree.map(lambda a: np.abs(draw(a)) + np.asarray(0.3, a.dtype), state)
    return fnn.Run(jax.tree.map(draw, params), state, None, None, in_shape)


def inputs(in_shape, rows=17, product=""):
    """Rows of that shape, as this product takes them."""
    x = np.random.default_rng(1).normal(size=(rows, *in_shape))
    return np.asarray(CASES[product].inputs(x) if product in CASES else x, "float32")


def random_network(number):
    """Images through convolutions of every kind, pooling, and all that keeps their shape; then dense layers."""
    rng = np.random.default_rng([20, number])
    pick = lambda things: things[rng.integers(len(things))]  # noqa: E731
    pair = lambda most: tuple(int(n) for n in rng.integers(1, most + 1, 2))  # noqa: E731
    sides = lambda most: tuple(tuple(int(n) for n in rng.integers(0, most, 2)) for _ in "hw")  # noqa: E731
    layers, channels = [], 2 * int(rng.integers(1, 3))
    in_shape = (*(int(n) for n in rng.integers(9, 14, 2)), channels)
    for _ in range(rng.integers(1, 4)):
        padding = pick(["SAME", "VALID", sides(3)])
        groups = pick([1, 2, channels])
        channels = channels * int(rng.integers(1, 3))
        layers.append(fnn.conv2d(channels, pair(3), pair(2), padding, pair(2), groups, bias=bool(rng.random() < 0.7)))
        layers += [pick(CHANNELWISE), pick(CHANNELWISE)]
        if rng.random() < 0.3:
            layers.append(fnn.residual(fnn.conv2d(channels, 3), pick(CHANNELWISE)))
        if rng.random() < 0.4:
            window = (2, 3)
            pool = pick([fnn.max_pool, fnn.avg_pool])
            layers.append(pool(window, pick([None, 1, (1, 2)]), pick(["SAME", ((1, 0), (1, 2))])))
        if rng.random() < 0.3:
            factor, method = pair(3), pick(["nearest", "bilinear"])
            larger = fnn.conv_transpose2d(channels, pair(3), pair(3), pick(["SAME", "VALID"]), groups=groups)
            layers += [pick([fnn.upsample(factor, method), larger]), pick(CHANNELWISE)]
    layers += [pick([fnn.global_avg_pool(), fnn.flatten()]), fnn.dense(4), pick(CHANNELWISE)]
    layers += [fnn.repeat(fnn.serial(fnn.dense(4), pick(CHANNELWISE)), 2), fnn.dense(3)]
    return fnn.serial(*layers), in_shape


WORDS = 7  # how many there are


def random_sequence_network(number):
    """Words through an embedding and convolutions of every kind; then dense layers."""
    rng = np.random.default_rng([22, number])
    pick = lambda things: things[rng.integers(len(things))]  # noqa: E731
    few = lambda most: int(rng.integers(1, most + 1))  # noqa: E731
    layers, channels = [fnn.embedding(WORDS, 2 * few(2)), pick(CHANNELWISE)], 4
    for _ in range(few(3)):
        padding, groups = pick(["SAME", "VALID", "CAUSAL", (few(3), few(3))]), pick([1, 2])
        layers.append(fnn.conv1d(channels, few(3), few(2), padding, few(2), groups, bias=bool(rng.random() < 0.7)))
        layers += [pick(CHANNELWISE), pick(CHANNELWISE)]
        if rng.random() < 0.3:
            layers.append(fnn.residual(fnn.conv1d(channels, 3), pick(CHANNELWISE)))
    return fnn.serial(*layers, fnn.flatten(), fnn.dense(4), pick(CHANNELWISE), fnn.dense(3)), (few(8) + 6,)


def random_fitting_network(number, draw=random_network):
    """A random network whose windows fit into its inputs."""
    for again in range(100):
        net, in_shape = draw(1000 * number + again)
        try:
            jax.eval_shape(lambda net=net, in_shape=in_shape: net.init(KEY, in_shape)[:2])
        except fnn.ShapeError:
            continue
        return net, in_shape
    raise AssertionError("no network fits")
