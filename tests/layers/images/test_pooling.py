"""Pooling: against nested loops in NumPy, by hand and by autodiff; ties, padding, overlaps, and what raises."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.layers.images.pooling import avg_pool, global_avg_pool, max_pool
from tests.helpers.compare import normwise

KEY = jax.random.key(0)


def quick(function, *arguments):
    """Compiled without optimisation and run: compiling is what takes the time here."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function).lower(*arguments).compile(compiler_options=options)(*arguments)


def everything(layer, x, dy):
    """Outputs, and the derivative by hand and by autodiff."""

    def both(x, dy):
        y, pull = jax.vjp(lambda x: layer.forward((), (), x, None, False)[0], x)
        return y, layer.backward((), layer.forward((), (), x, None, True)[2], dy)[1], pull(dy)[0]

    return quick(both, x, dy)


# ---- the reference: nested loops over the windows


def same(numbers, size, stride):
    missing = max(0, (-(-numbers // stride) - 1) * stride + size - numbers)
    return missing // 2, missing - missing // 2


def loops(kind, x, window, stride, pads):
    """y, and a function from dy to dx."""
    rows, columns = ((n + sum(p) - k) // s + 1 for n, k, s, p in zip(x.shape[1:3], window, stride, pads, strict=True))
    y = np.zeros((len(x), rows, columns, x.shape[3]))
    sources = {}
    for n, i, j, c in np.ndindex(y.shape):
        top, left = i * stride[0] - pads[0][0], j * stride[1] - pads[1][0]
        places = itertools.product(range(top, top + window[0]), range(left, left + window[1]))
        inside = [(n, r, q, c) for r, q in places if 0 <= r < x.shape[1] and 0 <= q < x.shape[2]]
        values = [x[at] for at in inside]
        if kind is max_pool:
            y[n, i, j, c] = max(values)
            sources[n, i, j, c] = [(inside[values.index(max(values))], 1.0)]  # the first in row-major order
        else:
            y[n, i, j, c] = sum(values) / len(values)
            sources[n, i, j, c] = [(at, 1 / len(values)) for at in inside]

    def back(dy):
        dx = np.zeros_like(x)
        for at, shares in sources.items():
            for place, share in shares:
                dx[place] += dy[at] * share
        return dx

    return y, back


CASES = [  # window, stride, padding, (height, width)
    (2, None, "VALID", (6, 8)),
    (2, None, "VALID", (7, 5)),  # a row and a column left out
    ((3, 2), (2, 1), "VALID", (8, 5)),  # overlapping
    (3, (1, 2), "SAME", (5, 7)),
    ((2, 5), (3, 2), "SAME", (7, 11)),
    ((3, 4), None, ((2, 0), (1, 3)), (5, 7)),  # on one side alone
    ((2, 2), (3, 5), "VALID", (11, 13)),  # numbers between the windows
    ((7, 5), None, "VALID", (7, 5)),
    (1, None, "VALID", (3, 2)),
    (3, 4, "SAME", (1, 2)),  # larger than the image
]


@pytest.mark.parametrize("values", ["random", "ties"])
@pytest.mark.parametrize("kind", [max_pool, avg_pool])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_and_derivative_equal_nested_loops(case, kind, values, x64):
    window, stride, padding, (height, width) = case
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, height, width, 3))
    x = x if values == "random" else np.sign(x)  # few values: nearly every window has a tie
    pair = lambda n: n if isinstance(n, tuple) else (n, n)  # noqa: E731
    windows, strides = pair(window), pair(stride or window)
    pads = padding
    if isinstance(padding, str):
        both = [same(*axis) for axis in zip((height, width), windows, strides, strict=True)]
        pads = both if padding == "SAME" else ((0, 0), (0, 0))
    y, back = loops(kind, x, windows, strides, pads)
    dy = rng.normal(size=y.shape)
    layer = kind(window, stride, padding)
    got, by_hand, by_autodiff = everything(layer, x, dy)
    assert layer.init(KEY, x.shape[1:]) == ((), (), y.shape[1:])
    assert normwise(got, y) < 1e-14
    assert normwise(by_hand, back(dy)) < 1e-14 and normwise(by_autodiff, back(dy)) < 1e-14


def test_global_avg_pool_is_the_mean_of_each_channel(x64):
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(3, 5, 7, 2)), rng.normal(size=(3, 2))
    got, by_hand, by_autodiff = everything(global_avg_pool(), x, dy)
    expected = np.broadcast_to(dy[:, None, None] / 35, x.shape)
    assert global_avg_pool().init(KEY, (5, 7, 2)) == ((), (), (2,))
    assert normwise(got, x.sum(2).sum(1) / 35) < 1e-14
    assert normwise(by_hand, expected) < 1e-14 and normwise(by_autodiff, expected) < 1e-14


# ---- conventions


def test_of_equals_the_first_in_row_major_order_gets_all():
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, 0, 1] = x[0, 1, 0] = 1  # the upper row is first, though its column is the second
    _, by_hand, by_autodiff = everything(max_pool(2), x, np.array([5, 6, 7, 8], np.float32).reshape(1, 2, 2, 1))
    expected = [[0, 5, 6, 0], [0, 0, 0, 0], [7, 0, 8, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(by_hand[0, :, :, 0], expected)
    np.testing.assert_array_equal(by_autodiff[0, :, :, 0], expected)


def test_padding_is_never_the_largest_and_never_counts():
    x = np.full((1, 3, 3, 1), -7, np.float32)
    for layer in (max_pool(2, 1, "SAME"), avg_pool(2, 1, "SAME"), avg_pool(3, 2, ((2, 1), (2, 1)))):
        y = quick(lambda x, layer=layer: layer.forward((), (), x, None, False)[0], x)
        np.testing.assert_allclose(y, np.full_like(y, -7), rtol=1e-6)


@pytest.mark.parametrize("place", range(4))
def test_a_nan_is_not_lost(place):
    x = np.arange(4, dtype=np.float32)
    x[place] = np.nan
    for layer in (max_pool(2), avg_pool(2), global_avg_pool()):
        y = quick(lambda x, layer=layer: layer.forward((), (), x, None, False)[0], x.reshape(1, 2, 2, 1))
        assert np.isnan(y).all()


@pytest.mark.parametrize("layer", [max_pool((2, 3), 1), avg_pool((2, 3), 1), global_avg_pool()], ids=str)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "uint8"])
def test_dtypes_stay_and_bytes_become_floats(layer, dtype):
    x = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)), dtype)
    y, dx = quick(
        lambda x: (lambda y, _, cache: (y, layer.backward((), cache, y)[1]))(*layer.forward((), (), x, None, True)), x
    )
    floating = jnp.float32 if dtype == "uint8" else dtype
    assert y.dtype == dx.dtype == floating
    exact = quick(lambda x: layer.forward((), (), x, None, True)[0], x.astype(jnp.float32))
    assert normwise(y.astype(jnp.float32), exact) < (1e-2 if dtype == "bfloat16" else 1e-6)


def test_forward_mode_and_vmap_work():
    x = np.random.default_rng(0).normal(size=(2, 2, 4, 4, 1)).astype(np.float32)

    def along(x, v):
        return jax.jvp(lambda x: max_pool(2).forward((), (), x, None, False)[0], (x,), (v,))

    y, slope = quick(jax.vmap(along), x, 2 * x)
    np.testing.assert_array_equal(slope, 2 * y)


# ---- what raises


@pytest.mark.parametrize(
    "layer, in_shape, message",
    [
        (max_pool(2), (8, 8), "max_pool(2): expected images of shape (height, width, channels), got (8, 8). Add "
         "an axis of one channel: x[..., None]."),
        (avg_pool((3, 2)), (2, 5, 1), "avg_pool((3, 2)): expected images of at least 3 × 2, got 2 × 5 from (2, 5, 1). "
         "Use a smaller window or padding='SAME', or pool less before it."),
        (global_avg_pool(), (100,), "global_avg_pool: expected images of shape (height, width, channels), got (100,). "
         "Put it before what makes vectors of images, or reshape x to (rows, height, width, channels)."),
    ],
    ids=str,
)  # fmt: skip
def test_shapes_that_cannot_work_raise_at_init_and_in_forward(layer, in_shape, message):
    for use in (
        lambda: layer.init(KEY, in_shape),
        lambda: layer.forward((), (), jnp.ones((2, *in_shape)), None, False),
    ):
        with pytest.raises(fnn.ShapeError) as caught:
            use()
        assert str(caught.value) == message


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0,), "max_pool(0): expected window to be two whole numbers, at least 1, got 0. Write window=(2, 2)."),
        ((2, 0), "max_pool(2): expected stride to be two whole numbers, at least 1, got 0. Write stride=(2, 2)."),
        ((2, 2, "FULL"), "max_pool(2): expected padding 'SAME', 'VALID' or ((top, bottom), (left, right)) in whole "
         "numbers of at least 0, got 'FULL'. Write padding='SAME'."),
        ((2, 2, ((0, 0), (0, 2))), "max_pool(2): expected padding less than the window on each side, got ((0, 0), (0, "
         "2)). Pad less: a window must not lie in padding altogether."),
    ],
)  # fmt: skip
def test_arguments_out_of_range_raise(arguments, message):
    with pytest.raises(ValueError) as caught:
        max_pool(*arguments)
    assert str(caught.value) == message


def test_they_print_as_they_were_made():
    assert str(max_pool(2)) == "max_pool(2)" and max_pool(2) is max_pool(2, None)
    assert str(avg_pool(3, 2, "SAME")) == "avg_pool(3, stride=2, padding='SAME')"
    assert str(global_avg_pool()) == "global_avg_pool()"


# ---- half precision, and nan


def test_the_mean_of_halves_does_not_overflow_on_the_way():
    x = jnp.full((1, 4, 4, 1), 60000.0, jnp.float16)
    for layer in (fnn.avg_pool(2), fnn.avg_pool(3, 1, "SAME"), fnn.global_avg_pool()):
        y, _, cache = layer.forward((), (), x, None, False)
        assert y.dtype == jnp.float16 and (y == 60000).all()
        dx = layer.backward((), cache, jnp.ones_like(y))[1]
        assert dx.dtype == jnp.float16 and jnp.isfinite(dx).all()


def test_the_first_nan_of_a_window_comes_out_and_gets_the_derivative():
    x = jnp.array([[3.0, jnp.nan, 1.0, 2.0], [jnp.nan, 9.0, 4.0, 0.0]])[None, :, :, None]
    layer, dy = fnn.max_pool(2), jnp.array([5.0, 7.0]).reshape(1, 1, 2, 1)
    y, _, cache = layer.forward((), (), x, None, False)
    np.testing.assert_array_equal(y.ravel(), [np.nan, 4.0])
    expected = [0, 5, 0, 0, 0, 0, 7, 0]
    np.testing.assert_array_equal(layer.backward((), cache, dy)[1].ravel(), expected)
    pull = jax.vjp(lambda x: layer.forward((), (), x, None, False)[0], x)[1]
    np.testing.assert_array_equal(pull(dy)[0].ravel(), expected)
