"""Every public layer on nan, ±inf, the largest, a huge, the smallest, a subnormal number and -0.0: values, derivatives.

The reference is the formula in NumPy, in a wider dtype than the layer's, so that only the result may overflow: what the
formula makes nan is nan, what it makes finite is finite. The derivative by hand is that by autodiff, nan where it has
nan.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

DTYPES = ["float32", *(pytest.param(name, marks=pytest.mark.slow) for name in ("float64", "bfloat16"))]
KEY = jax.random.key(0)
VECTORS, SPARSE, SEQUENCES, IMAGES = (3, 4), (3, 2, 4), (2, 6, 2), (2, 4, 5, 2)


def special(dtype):
    kind = jnp.finfo(dtype)
    return {
        "nan": np.nan,
        "inf": np.inf,
        "-inf": -np.inf,
        "largest": float(kind.max),
        "huge": float(kind.max) ** 0.78,  # 1e30 in float32: its square overflows
        "smallest": float(kind.smallest_normal),
        "-0.0": -0.0,
        "subnormal": float(kind.smallest_normal) / 4,
    }


# ---- the formulas, in NumPy: (params, x) -> y, for x in a wide dtype


def sparse_dense(p, x):
    columns = len(p["w"])
    there = (x[:, 0] > -0.5) & (x[:, 0] < columns - 0.5)
    w = np.where(there[..., None], p["w"][np.rint(np.where(there, x[:, 0], 0)).astype(int)], np.nan)
    return (w * x[:, 1, :, None]).sum(1) + p["b"]


def dense(p, x):
    return x @ p["w"] + p["b"]


def conv(p, x):
    """3 × 3, "SAME": a sum over what the window sees of the image."""
    y = np.zeros((*x.shape[:3], p["w"].shape[3]), x.dtype) + p["b"]
    for i, j, k, m in itertools.product(range(x.shape[1]), range(x.shape[2]), range(3), range(3)):
        r, q = i + k - 1, j + m - 1
        if 0 <= r < x.shape[1] and 0 <= q < x.shape[2]:
            y[:, i, j] += x[:, r, q] @ p["w"][k, m]
    return y


def sequences(p, x):
    """3 steps wide, "SAME"."""
    y = np.zeros((*x.shape[:2], p["w"].shape[2]), x.dtype) + p["b"]
    for i, k in itertools.product(range(x.shape[1]), range(3)):
        if 0 <= i + k - 1 < x.shape[1]:
            y[:, i] += x[:, i + k - 1] @ p["w"][k]
    return y


def transposed(p, x):
    """2 × 2 windows that do not overlap."""
    y = np.einsum("nijc,kloc->nikjlo", x, p["w"])
    return y.reshape(len(x), 2 * x.shape[1], 2 * x.shape[2], -1) + p["b"]


def twice_as_large(x, lines):
    """The rows of the larger image, from those of this one: repeated, or ¼ of the neighbour and ¾."""
    if not lines:
        return x.repeat(2, 1)
    before, after = (np.concatenate(parts, 1) for parts in ((x[:, :1], x[:, :-1]), (x[:, 1:], x[:, -1:])))
    return np.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], 2).reshape(len(x), -1, *x.shape[2:])


def enlarged(x, lines):
    return np.swapaxes(twice_as_large(np.swapaxes(twice_as_large(x, lines), 1, 2), lines), 1, 2)


def looked_up(p, x):
    known = (x >= 0) & (x < 4) & (x == np.floor(x))
    return np.where(known[..., None], p["table"][np.where(known, x, 0).astype(int)], np.nan)


def windows(x):
    """(batch, rows, columns, 2, 2, channels), without overlap; the last column is left out."""
    return x[:, :, :4].reshape(len(x), 2, 2, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)


def normalised(x, axes):
    centred = x - x.mean(axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axes, keepdims=True) + 1e-5)


def slope(a):
    return lambda p, x: np.where(x > 0, x, a * x)


def moved(layer):
    """What a layer does that moves numbers: to where, is seen of an image of places; 0 is beyond the image."""
    places = layer.forward((), (), jnp.arange(1, 81).reshape(IMAGES), KEY, True)[0]
    return lambda p, x: np.where(places > 0, x.ravel()[np.maximum(places, 1) - 1], 0)


def noisy(p, x):
    ones = layer_outputs(fnn.gaussian_noise(0.5), (), jnp.zeros(x.shape))
    return x + np.asarray(ones, np.float64)


def kept(p, x):
    keep = layer_outputs(fnn.dropout(0.5), (), jnp.ones(x.shape)) > 0
    return np.where(keep, x / 0.5, 0)


def layer_outputs(layer, params, x):
    return np.asarray(layer.forward(params, (), x, KEY, True)[0])


def drawn_slopes(p, x):
    slopes = -layer_outputs(fnn.rrelu(0.125, 0.25), (), -jnp.ones(x.shape))
    return np.where(x > 0, x, slopes * x)


def narrowed(p, x):
    def narrow(a):
        return np.asarray(np.asarray(a, "float64").astype(jnp.bfloat16), x.dtype)

    return narrow(narrow(x) * 0.5)


double = fnn.rescale(2.0, 0.0)
CASES = {  # layer, shape of x, formula
    "dense": (fnn.dense(3), VECTORS, dense),
    "dense, by a library": (fnn.dense(5), VECTORS, dense),
    "sparse_dense": (fnn.sparse_dense(3, 1), SPARSE, sparse_dense),
    "sparse_dense, several outputs": (fnn.sparse_dense(3, 2), SPARSE, sparse_dense),
    "conv2d": (fnn.conv2d(3, 3), IMAGES, conv),
    "conv1d": (fnn.conv1d(3, 3), SEQUENCES, sequences),
    "conv_transpose2d": (fnn.conv_transpose2d(3, 2, 2), IMAGES, transposed),
    "upsample": (fnn.upsample(), IMAGES, lambda p, x: enlarged(x, False)),
    "upsample, bilinear": (fnn.upsample(2, "bilinear"), IMAGES, lambda p, x: enlarged(x, True)),
    "embedding": (fnn.embedding(4, 3), VECTORS, looked_up),
    "flatten": (fnn.flatten(), IMAGES, lambda p, x: x.reshape(len(x), -1)),
    "max_pool": (fnn.max_pool(2), IMAGES, lambda p, x: windows(x).max((3, 4))),
    "avg_pool": (fnn.avg_pool(2), IMAGES, lambda p, x: windows(x).mean((3, 4))),
    "global_avg_pool": (fnn.global_avg_pool(), IMAGES, lambda p, x: x.mean((1, 2))),
    "batch_norm": (fnn.batch_norm(), IMAGES, lambda p, x: normalised(x, (0, 1, 2))),
    "layer_norm": (fnn.layer_norm(), VECTORS, lambda p, x: normalised(x, -1)),
    "group_norm": (fnn.group_norm(1), IMAGES, lambda p, x: normalised(x, (1, 2, 3))),
    "rms_norm": (fnn.rms_norm(), VECTORS, lambda p, x: x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)),
    "dropout": (fnn.dropout(0.5), VECTORS, kept),
    "gaussian_noise": (fnn.gaussian_noise(0.5), VECTORS, noisy),
    "random_shift": (fnn.random_shift(1), IMAGES, moved(fnn.random_shift(1))),
    "random_flip": (fnn.random_flip(), IMAGES, moved(fnn.random_flip())),
    "random_crop": (fnn.random_crop(3, 3), IMAGES, moved(fnn.random_crop(3, 3))),
    "rescale": (fnn.rescale(0.25, 0.5), VECTORS, lambda p, x: 0.25 * x + 0.5),
    "prelu": (fnn.prelu(), VECTORS, slope(0.25)),
    "rrelu": (fnn.rrelu(0.125, 0.25), VECTORS, drawn_slopes),
    "leaky_relu": (fnn.as_layer(fnn.leaky_relu(0.25)), VECTORS, slope(0.25)),
    "elu": (fnn.as_layer(fnn.elu()), VECTORS, lambda p, x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    "serial": (fnn.serial(double, double), VECTORS, lambda p, x: 2 * (2 * x)),
    "repeat": (fnn.repeat(double, 2), VECTORS, lambda p, x: 2 * (2 * x)),
    "residual": (fnn.residual(double), VECTORS, lambda p, x: x + 2 * x),
    "parallel": (fnn.serial(fnn.parallel(double, fnn.serial()), fnn.select(0)), VECTORS, lambda p, x: 2 * x),
    "select": (fnn.serial(fnn.parallel(a=double, b=fnn.serial()), fnn.select("b")), VECTORS, lambda p, x: x),
    "add": (fnn.serial(fnn.parallel(double, fnn.serial()), fnn.add()), VECTORS, lambda p, x: 2 * x + x),
    "concatenate": (
        fnn.serial(fnn.parallel(double, fnn.serial()), fnn.concatenate()),
        VECTORS,
        lambda p, x: np.concatenate([2 * x, x], -1),
    ),
    "mixed_precision": (fnn.mixed_precision(fnn.rescale(0.5, 0.0)), VECTORS, narrowed),
    "from_function": (fnn.from_function(lambda x: 0.5 * x), VECTORS, lambda p, x: 0.5 * x),
}
# a sum on the way, or a variance, may be beyond the dtype: then inf or nan, which is seen, and never another number
SUMS = {"dense", "dense, by a library", "conv2d", "avg_pool", "global_avg_pool", "batch_norm", "layer_norm"}
SUMS |= {"sparse_dense", "sparse_dense, several outputs", "conv1d", "conv_transpose2d", "group_norm", "rms_norm"}
BEYOND = {(name, "largest") for name in SUMS}

# a CPU takes it for 0: which is a category, and which times 1000 is 0
UNDECIDED = {("embedding", "subnormal"), ("rms_norm", "subnormal")}

every_case = pytest.mark.parametrize("name", CASES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def test_every_public_layer_is_here():
    public = {name for name, thing in vars(fnn).items() if getattr(thing, "is_factory", False)} - {"binary_accuracy"}
    assert public == {name.partition(",")[0] for name in CASES}


def made(name, dtype):
    layer, shape, formula = CASES[name]
    params, state, _ = layer.init(KEY, shape[1:])
    rng = np.random.default_rng(1)
    x = rng.normal(size=shape)
    params = jax.tree.map(lambda a: jnp.asarray(np.asarray(a).astype(jnp.dtype(dtype))), params)
    return layer, formula, params, state, jnp.asarray(x, dtype)


def places(x, value):
    """Special numbers stand at two places, and everywhere."""
    some = np.array(x)
    some.ravel()[[1, -2]] = value
    yield jnp.asarray(some)
    yield jnp.asarray(np.full_like(some, value))


@every_dtype
@every_case
def test_values_are_those_of_the_formula(name, dtype, x64):
    layer, formula, params, state, x = made(name, dtype)
    forward = jax.jit(lambda params, x: layer.forward(params, state, x, KEY, True)[0])
    wide = jax.tree.map(lambda a: np.asarray(a, np.longdouble), params)
    kind = jnp.finfo(dtype)
    for what, value in special(dtype).items():
        if (name, what) in UNDECIDED:
            continue
        for at in places(x, value):
            y = np.asarray(forward(params, at), np.longdouble)
            with np.errstate(all="ignore"):
                expected = formula(wide, np.asarray(at, np.longdouble))
                expected = np.asarray(expected.astype("float64").astype(kind.dtype), np.longdouble)
            if (name, what) in BEYOND:
                y = np.where(np.isfinite(y), y, expected)
            ordinary = y[np.abs(y) < 1e6]
            size = max(float(np.abs(ordinary).max(initial=0)) * float(kind.eps), float(kind.smallest_normal))
            np.testing.assert_allclose(y, expected, 8 * float(kind.eps), 8 * size, True, what)


@every_dtype
@every_case
def test_the_derivative_by_hand_is_that_by_autodiff(name, dtype, x64):
    layer, _, params, state, x = made(name, dtype)

    @jax.jit
    def both(params, x, dy):
        _, _, cache = layer.forward(params, state, x, KEY, True)
        pull = jax.vjp(lambda params, x: layer.forward(params, state, x, KEY, True)[0], params, x)[1]
        return layer.backward(params, cache, dy), pull(dy)

    y = jax.eval_shape(lambda params, x: layer.forward(params, state, x, KEY, True)[0], params, x)
    dy = jnp.asarray(np.random.default_rng(2).normal(size=y.shape), dtype)
    cases = [(what, at, dy) for what, value in special(dtype).items() for at in places(x, value)]
    cases += [("dy nan", x, dy.ravel().at[0].set(jnp.nan).reshape(dy.shape))]
    for what, at, slope in cases:
        if (name, what) in BEYOND:
            continue
        hand, auto = both(params, at, slope)
        for a, b in zip(jax.tree.leaves(hand), jax.tree.leaves(auto), strict=True):
            a, b = np.asarray(a, np.longdouble), np.asarray(b, np.longdouble)
            np.testing.assert_array_equal(np.isnan(a), np.isnan(b), what)
            size = float(np.abs(a[np.isfinite(a)]).max(initial=0))
            np.testing.assert_allclose(a, b, 0.05 if dtype == "bfloat16" else 1e-4, 1e-5 * size + 1e-30, True, what)
