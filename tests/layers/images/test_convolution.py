"""Convolutions: against nested loops in NumPy over hundreds of shapes, by hand, by autodiff, in both ways to compute
them; and what raises."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec as P

import fnn
from fnn.kernels import convolution
from fnn.kernels.windows import Windows, window_spec
from fnn.layers.images import pooling
from fnn.layers.images.convolution import conv2d, flatten
from tests.helpers.compare import close, normwise

KEY = jax.random.key(0)


# ---- the reference: five nested loops, and the definition


def loops(x, w, dy, c):
    """y without bias, dw, dx; `c` has stride, pads ((top, bottom), (left, right)), dilation, groups."""
    (s, t), ((top, bottom), (left, right)), (d, e) = c["stride"], c["pads"], c["dilation"]
    kh, kw, fan_in, features = w.shape
    rows = (x.shape[1] + top + bottom - d * (kh - 1) - 1) // s + 1
    columns = (x.shape[2] + left + right - e * (kw - 1) - 1) // t + 1
    y, dw, dx = np.zeros((len(x), rows, columns, features)), np.zeros_like(w), np.zeros_like(x)
    dy = np.resize(dy, y.shape)
    of = features // c["groups"]
    for n, i, j, k, m in itertools.product(range(len(x)), range(rows), range(columns), range(kh), range(kw)):
        r, q = i * s - top + k * d, j * t - left + m * e
        if 0 <= r < x.shape[1] and 0 <= q < x.shape[2]:
            for g in range(c["groups"]):
                a, b = slice(g * fan_in, (g + 1) * fan_in), slice(g * of, (g + 1) * of)
                y[n, i, j, b] += x[n, r, q, a] @ w[k, m, :, b]
                dw[k, m, :, b] += np.outer(x[n, r, q, a], dy[n, i, j, b])
                dx[n, r, q, a] += w[k, m, :, b] @ dy[n, i, j, b]
    return y, dw, dx, dy


def same(numbers, size, stride, dilation):
    outputs = -(-numbers // stride)
    missing = max(0, (outputs - 1) * stride + dilation * (size - 1) + 1 - numbers)
    return missing // 2, missing - missing // 2


def drawn(seed):
    """A convolution with a prime for every size, no two alike but by chance of the groups."""
    rng = np.random.default_rng([6, seed])
    batch, kh, kw = rng.permutation([2, 3, 5]) if seed % 4 else (2, *rng.permutation([1, 3]))
    height, width = rng.choice([7, 11, 13], 2, replace=False)
    fan_in, of = rng.choice([2, 3, 5, 7, 17, 19], 2, replace=False)
    groups = int(rng.choice([1, 1, 2, 3]))
    dilation = tuple(int(d) for d in rng.choice([1, 1, 2, 3], 2))
    stride = tuple(int(s) for s in rng.choice([1, 2, 3, 5], 2))
    spans = (dilation[0] * (kh - 1) + 1, dilation[1] * (kw - 1) + 1)
    sides = rng.integers(0, 4, (2, 2)) * rng.integers(0, 2, (2, 2))  # often on one side alone
    padding = ["SAME", "VALID", tuple(map(tuple, sides.tolist()))][seed % 3]
    sizes = zip((height, width), (kh, kw), stride, dilation, strict=True)
    pads = {"SAME": tuple(same(*axis) for axis in sizes), "VALID": ((0, 0), (0, 0))}.get(padding, padding)
    if any(n + sum(p) < span for n, p, span in zip((height, width), pads, spans, strict=True)):
        return drawn(seed + 1000)
    x = rng.normal(size=(batch, height, width, groups * fan_in))
    w, dy = rng.normal(size=(kh, kw, fan_in, groups * of)), rng.normal(size=997)
    call = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return conv2d(int(groups * of), (int(kh), int(kw)), **call), x, w, dy, call | {"pads": pads}


def quick(function, *arguments):
    """Compiled without optimisation and run: compiling is what takes the time here."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function).lower(*arguments).compile(compiler_options=options)(*arguments)


def everything(layer):
    """What a convolution gives: outputs, and the derivatives by autodiff and by hand."""

    def both(params, x, dy):
        y, pull = jax.vjp(lambda p, x: layer.forward(p, (), x, None, False)[0], params, x)
        return y, pull(dy), layer.backward(params, layer.forward(params, (), x, None, True)[2], dy)

    return both


def out_shape(layer, x):
    found = []
    jax.eval_shape(lambda key: found.append(layer.init(key, x.shape[1:])[2]), KEY)  # draws nothing
    return found[0]


def check(seed):
    layer, x, w, dy, c = drawn(seed)
    y, dw, dx, dy = loops(x, w, dy, c)
    b = np.random.default_rng(seed).normal(size=w.shape[-1])
    got, by_autodiff, by_hand = quick(everything(layer), {"w": w, "b": b}, x, dy)
    assert normwise(got, y + b) < 1e-12 and out_shape(layer, x) == y.shape[1:], layer
    expected = ({"w": dw, "b": dy.sum((0, 1, 2))}, dx)
    for name, derivatives in (("by hand", by_hand), ("autodiff", by_autodiff)):
        assert normwise(derivatives, expected) < 1e-12, (layer, name)


@pytest.mark.parametrize("seed", range(8))
def test_forward_and_both_derivatives_equal_nested_loops(seed, x64):
    check(seed)


@pytest.mark.slow
def test_they_do_so_over_240_shapes(x64):
    for seed in range(240):
        check(seed)


@pytest.mark.parametrize("seeds", [[3, 10], pytest.param(range(80), marks=pytest.mark.slow)], ids=["2", "80"])
def test_the_librarys_convolutions_do_so_too(seeds, x64, monkeypatch):
    """The way that other platforms than a CPU take."""
    monkeypatch.setattr(convolution, "_uses_patches", lambda: False)
    for seed in seeds:
        check(seed)


def test_the_shapes_drawn_have_everything():
    cases = [drawn(seed) for seed in range(240)]
    kinds = [c for *_, c in cases]
    assert len({(x.shape, w.shape, str(c)) for _, x, w, _, c in cases}) >= 230
    assert {"SAME", "VALID"} < {str(c["padding"]) for c in kinds}
    assert sum((p[0] == 0) != (p[1] == 0) for c in kinds for p in c["pads"]) > 60  # on one side alone
    assert {c["groups"] for c in kinds} == {1, 2, 3} and {c["dilation"] for c in kinds} >= {(1, 1), (2, 3), (3, 1)}
    left = [
        (x.shape[1] + sum(c["pads"][0]) - c["dilation"][0] * (w.shape[0] - 1) - 1) % c["stride"][0]
        for _, x, w, _, c in cases
    ]
    assert sum(rest > 0 for rest in left) > 60  # strides that do not divide
    assert {convolution._tile(sized(x, w, c), w.shape[-1]).width for _, x, w, _, c in cases} >= {1, 2, 3}


def sized(x, w, c):
    over = [
        Windows(n, k, s, d, *p)
        for n, k, s, d, p in zip(x.shape[1:3], w.shape[:2], c["stride"], c["dilation"], c["pads"], strict=True)
    ]
    return convolution.Convolution(*over, c["groups"])


# ---- what else can be done with it

LAYER = conv2d(6, (3, 2), stride=(2, 1), groups=2)
SIZES = {"stride": (2, 1), "dilation": (1, 1), "pads": ((1, 1), (0, 1)), "groups": 2}


def at(dtype="float64", rows=3):
    rng = np.random.default_rng(1)
    params = {"w": rng.normal(size=(3, 2, 2, 6)), "b": rng.normal(size=6)}
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), (params, rng.normal(size=(rows, 7, 5, 4))))


def outputs(params, x):
    return LAYER.forward(params, (), x, None, False)[0]


def test_forward_mode_and_second_derivatives_are_right(x64):
    params, x = at()
    move = jax.tree.map(lambda a: jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), params)
    cost = lambda params: jnp.sin(outputs(params, x)).sum()  # noqa: E731

    def slopes(params):
        forward = jax.jvp(outputs, (params, x), (move, jnp.cos(x)))[1]
        twice = jax.jvp(jax.grad(cost), (params,), (move,))[1]
        without = {**params, "b": move["b"]}
        along = outputs({**move, "b": 0 * move["b"]}, x) + outputs(without, jnp.cos(x))
        dy = -jnp.sin(outputs(params, x)) * outputs(move, x)  # of cos(y): the chain rule by hand
        return (forward, twice), (along, LAYER.backward(params, x, dy)[0])

    assert normwise(*quick(slopes, params)) < 1e-12


def test_the_three_products_are_each_others_transposes(x64):
    (params, x), c = at(), sized(np.empty((3, 7, 5, 4)), np.empty((3, 2, 2, 6)), SIZES)
    w, dy = params["w"], jnp.sin(outputs(params, x))
    move = lambda a: jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape)  # noqa: E731

    def both_sides(x, w, dy):
        """Of `<u, J v> = <Jᵀ u, v>`, where J comes from the products themselves, and Jᵀ from the transposes."""
        for product, factors in (
            (convolution.forward, (x, w)),
            (convolution.weight_gradient, (x, dy)),
            (convolution.input_gradient, (dy, w)),
        ):
            along = tuple(map(move, factors))
            y, pull = jax.vjp(lambda *factors, f=product: f(*factors, c), *factors)
            back = pull(jnp.sin(y))
            for i in range(2):  # one factor at a time, so that neither hides behind the other
                alone = tuple(a if i == j else 0 * a for j, a in enumerate(along))
                slope = jax.jvp(lambda *factors, f=product: f(*factors, c), factors, alone)[1]
                yield jnp.vdot(jnp.sin(y), slope), jnp.vdot(back[i], along[i])

    for left, right in quick(lambda *factors: list(both_sides(*factors)), x, w, dy):
        assert abs(left - right) < 1e-12 * abs(right)


@pytest.mark.parametrize("in_cache", [0, convolution.IN_CACHE], ids=["one by one", "at once"])
def test_members_under_vmap_are_those_done_alone(in_cache, x64, monkeypatch):
    monkeypatch.setattr(convolution, "IN_CACHE", in_cache)
    (params, x), scale = at(), jnp.asarray([1.0, -0.5, 2.0])
    many = jax.tree.map(lambda a: scale.reshape(-1, *[1] * a.ndim) * a, params)

    def all_of(params):
        y, pull = jax.vjp(outputs, params, x)
        return y, LAYER.backward(params, x, jnp.cos(y)), pull(jnp.cos(y)), jax.jvp(outputs, (params, x), (params, x))

    def in_three_ways(many):
        first = jax.tree.map(lambda a: a[0], many)
        of_images = jax.vmap(lambda x: outputs(first, x[None])[0])(x)  # the members share the weights
        return jax.vmap(all_of)(many), jax.lax.map(all_of, many), of_images, outputs(first, x)

    together, alone, of_images, of_batch = quick(in_three_ways, many)
    assert normwise(together, alone) < 1e-12 and normwise(of_images, of_batch) < 1e-12
    loops = str(jax.make_jaxpr(jax.vmap(lambda p: outputs(p, x)))(many)).count("scan[")
    assert loops == (in_cache == 0 and jax.default_backend() == "cpu")  # elsewhere all at once


@pytest.mark.parametrize("dtype, limit", [("float32", 2e-6), ("bfloat16", 2e-2)])
def test_dtypes_stay(dtype, limit, x64):
    params, x = at(dtype)
    to = lambda tree, dtype: jax.tree.map(lambda a: a.astype(dtype), tree)  # noqa: E731

    def both(params, x):
        y, _, cache = LAYER.forward(params, (), x, None, True)
        return y, LAYER.backward(params, cache, jnp.cos(to(outputs(*at()), x.dtype)))

    got, exact = quick(both, params, x), quick(both, *to((params, x), "float64"))
    assert {a.dtype for a in jax.tree.leaves(got)} == {jnp.dtype(dtype)}
    assert normwise(to(got, "float64"), exact) < limit


def test_bytes_are_the_numbers_that_they_are():
    params, _ = at("float32")
    x = np.random.default_rng(0).integers(0, 256, (3, 7, 5, 4), dtype=np.uint8)
    one, other = quick(lambda *both: [outputs(params, x) for x in both], jnp.asarray(x), jnp.asarray(x, jnp.float32))
    np.testing.assert_array_equal(one, other)


def test_without_bias_there_is_none():
    layer = conv2d(2, (3, 3), bias=False, weight_init=jax.nn.initializers.ones)
    params, state, out_shape = layer.init(KEY, (4, 4, 1))
    assert set(params) == {"w"} and state == () and out_shape == (4, 4, 2)
    y, (dparams, _), _ = quick(everything(layer), params, jnp.ones((1, 4, 4, 1)), jnp.ones((1, 4, 4, 2)))
    np.testing.assert_array_equal(y[0, :, :, 0], [[4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4]])
    assert set(dparams) == {"w"}


def test_weights_start_with_deviation_root_of_1_over_fan_in():
    params = conv2d(200, (5, 3), groups=2).init(KEY, (9, 9, 40))[0]
    assert params["w"].shape == (5, 3, 20, 200) and not params["b"].any()
    assert abs(float(params["w"].std()) * np.sqrt(5 * 3 * 20) - 1) < 4 / np.sqrt(2 * params["w"].size)
    wider = conv2d(200, (5, 3), groups=2, weight_init=2.0, bias_init=0.1).init(KEY, (9, 9, 40))[0]
    np.testing.assert_allclose(wider["w"], np.asarray(params["w"]) * 2 * np.sqrt(300), rtol=1e-5)
    assert abs(float(wider["b"].std()) - 0.1) < 0.03


@pytest.mark.slow
def test_a_network_with_all_of_it_passes_the_gradient_check(x64):
    net = fnn.serial(conv2d(3, 2), fnn.tanh, pooling.max_pool(2), pooling.avg_pool(2, 1), flatten(), fnn.dense(3))
    params, state, _ = net.init(KEY, (6, 5, 2))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 5, 2)))
    check = fnn.check_gradients(
        net, fnn.losses.sparse_softmax_cross_entropy, params, state, x, jnp.array([0, 2]), show=False
    )
    assert check.ok, str(check)
    assert all(leaf.complex_step < 1e-12 for leaf in check.leaves), str(check)


def test_multiply_adds_are_those_of_the_definition():
    net = fnn.serial(
        conv2d(20, 5, padding="VALID"), fnn.relu, pooling.max_pool(2), conv2d(50, 5, groups=2), flatten(), fnn.dense(10)
    )
    size = fnn.summary(net, (28, 28, 1))
    counts = [20 * 24 * 24 * 25, 0, 0, 50 * 12 * 12 * 25 * 10, 0, 7200 * 10]
    assert [row.multiply_adds for row in size.rows] == counts
    assert [row.parameters for row in size.rows] == [520, 0, 0, 12550, 0, 72010]

    def own(x):
        w = jnp.ones((3, 3, 2, 8))
        return jax.lax.conv(x.transpose(0, 3, 1, 2), w.transpose(3, 2, 0, 1), (2, 2), "VALID")

    assert fnn.summary(own, (7, 7, 2)).multiply_adds == 8 * 3 * 3 * 18
    params, _ = at("float32")
    assert fnn.summary(lambda x: outputs(params, x), (7, 5, 4)).multiply_adds == 6 * 4 * 5 * 12


# ---- flatten


def test_flatten_goes_there_and_back():
    x = jnp.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    y, state, cache = flatten().forward((), (), x, None, True)
    assert flatten().init(KEY, (3, 4, 5)) == ((), (), (60,)) and state == ()
    np.testing.assert_array_equal(y, np.arange(120).reshape(2, 60))
    np.testing.assert_array_equal(flatten().backward((), cache, y)[1], x)
    assert flatten().forward((), (), x[:0], None, False)[0].shape == (0, 60)


# ---- what raises


@pytest.mark.parametrize(
    "layer, in_shape, message",
    [
        (conv2d(4, 5), (784,), "conv2d(4, 5): expected images of shape (height, width, channels), got (784,). "
         "Put it before what makes vectors of images, or reshape x to (rows, height, width, channels)."),
        (conv2d(4, 3), (28, 28), "conv2d(4, 3): expected images of shape (height, width, channels), got (28, 28). "
         "Add an axis of one channel: x[..., None]."),
        (conv2d(4, 5, padding="VALID"), (6, 4, 1), "conv2d(4, 5): expected images of at least 5 × 5, got 6 × 4 "
         "from (6, 4, 1). Use a smaller window or padding='SAME', or pool less before it."),
        (conv2d(4, 5, dilation=2, padding=((1, 1), (0, 0))), (6, 40, 1), "conv2d(4, 5): expected images of at "
         "least 7 × 9, got 6 × 40 from (6, 40, 1). Use a smaller window or padding='SAME', or pool less before it."),
        (conv2d(6, (3, 3), groups=3), (8, 8, 4), "conv2d(6, (3, 3)): expected channels that can be cut into 3 groups, "
         "got 4 from (8, 8, 4). Use groups that divide the channels."),
    ],
)  # fmt: skip
def test_shapes_that_cannot_work_raise_at_init(layer, in_shape, message):
    with pytest.raises(fnn.ShapeError) as caught:
        layer.init(KEY, in_shape)
    assert str(caught.value) == message
    with pytest.raises(fnn.ShapeError) as caught:
        fnn.serial(fnn.relu, layer).init(KEY, in_shape)
    assert str(caught.value) == f"layer 1, {message} (shapes up to here: {in_shape} -> {in_shape})"


def test_a_dense_layer_on_images_says_to_flatten_them():
    with pytest.raises(fnn.ShapeError, match=r"layer 1, dense\(3\): .* Put fnn.flatten\(\) before it"):
        fnn.serial(conv2d(2, (3, 3)), fnn.dense(3)).init(KEY, (8, 8, 1))


@pytest.mark.parametrize("shape", [(3, 7, 5), (3, 7, 5, 3), (3, 7, 5, 2)])
def test_other_inputs_than_the_parameters_are_for_raise(shape):
    params, _ = at("float32")
    with pytest.raises(fnn.ShapeError) as caught:
        outputs(params, jnp.ones(shape))
    assert str(caught.value) == (
        f"conv2d(6, (3, 2)): expected x of shape (batch, height, width, 4), got {shape}. "
        "Use the inputs that these parameters were made for."
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, (5, 5)), "conv2d: expected a whole number of features, at least 1, got 0. Write conv2d(20, (5, 5))."),
        ((True, 5), "conv2d: expected a whole number of features, at least 1, got True. Write conv2d(20, (5, 5))."),
        ((4, (5, 0)), "conv2d(4, (5, 0)): expected window to be two whole numbers, at least 1, got (5, 0). Write "
         "window=(2, 2)."),
        ((4, (3, 3, 3)), "conv2d(4, (3, 3, 3)): expected window to be two whole numbers, at least 1, got (3, 3, 3). "
         "Write window=(2, 2)."),
        ((4, 3, (1.0, 1)), "conv2d(4, 3): expected stride to be two whole numbers, at least 1, got (1.0, 1). Write "
         "stride=(2, 2)."),
        ((4, 3, 1, "same"), "conv2d(4, 3): expected padding 'SAME', 'VALID' or ((top, bottom), (left, right)) in whole "
         "numbers of at least 0, got 'same'. Write padding='SAME'."),
        ((4, 3, 1, ((1, 1), (0, -1))), "conv2d(4, 3): expected padding 'SAME', 'VALID' or ((top, bottom), (left, "
         "right)) in whole numbers of at least 0, got ((1, 1), (0, -1)). Write padding='SAME'."),
        ((4, 3, 1, 1), "conv2d(4, 3): expected padding 'SAME', 'VALID' or ((top, bottom), (left, right)) in whole "
         "numbers of at least 0, got 1. Write padding='SAME'."),
        ((4, 3, 1, "SAME", 0), "conv2d(4, 3): expected dilation to be two whole numbers, at least 1, got 0. Write "
         "dilation=(2, 2)."),
        ((4, 3, 1, "SAME", 1, 0), "conv2d: expected a whole number of groups, at least 1, got 0. Write groups=1."),
        ((4, 3, 1, "SAME", 1, 3), "conv2d(4, 3): expected features that can be cut into 3 groups, got 4. Use 6 "
         "features, or other groups."),
    ],
)  # fmt: skip
def test_arguments_out_of_range_raise(arguments, message):
    with pytest.raises(ValueError) as caught:
        conv2d(*arguments)
    assert str(caught.value) == message


def test_it_prints_as_it_was_made_and_is_made_once():
    assert str(conv2d(20, [5, 5])) == "conv2d(20, (5, 5))" and conv2d(20, (5, 5)) is conv2d(20, [5, 5])
    assert str(conv2d(20, 5, stride=(2, 2), groups=4)) == "conv2d(20, 5, stride=(2, 2), groups=4)"


# ---- what is not finite, no rows, and several devices


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("stride", "padding", "groups"), [(1, "SAME", 1), (1, "VALID", 2), (2, "SAME", 2)])
def test_what_is_not_finite_spoils_what_it_is_a_term_of_alone(value, stride, padding, groups):
    """A tile multiplies its neighbours by zeros: 0 · nan must not get into outputs that do not see the pixel."""
    c = convolution.Convolution(*window_spec("c", 3, stride, padding).over("c", (7, 11, 2)), groups)
    x, w = (
        jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(2, 7, 11, 2), (3, 3, 2 // groups, 4)])
    )
    dirty = x.at[1, 3, 4, 0].set(value).at[0, 6, 10, 1].set(value)
    y = convolution._library_forward(dirty, w, c)
    assert 0 < np.isfinite(y).sum() < y.size
    close(convolution.forward(dirty, w, c), y, 1e-4, 1e-5)
    dy = jax.random.normal(jax.random.key(2), y.shape)
    reached = [_taps_that_see(dirty, dy, c), np.isfinite(convolution.weight_gradient(dirty, dy, c))]
    np.testing.assert_array_equal(*reached)
    dirty = dy.at[1, 2, 2, 3].set(value)
    close(convolution.input_gradient(dirty, w, c), convolution._library_input_gradient(dirty, w, c), 1e-4, 1e-5)


def _taps_that_see(x, dy, c):
    """Whether `dw` is finite: the sum over outputs of `x` at that place of the window, one by one."""
    (low, high), (left, right) = ((o.low, o.high) for o in c[:2])
    x = np.pad(np.asarray(x), ((0, 0), (low, high), (left, right), (0, 0)))
    finite = np.ones((c.rows.size, c.columns.size, x.shape[3] // c.groups, dy.shape[3]), bool)
    for k, m in np.ndindex(*finite.shape[:2]):
        seen = x[:, k :: c.rows.stride, m :: c.columns.stride][:, : dy.shape[1], : dy.shape[2]]
        per_group = np.isfinite(seen).all((0, 1, 2)).reshape(c.groups, -1)
        finite[k, m] = np.repeat(per_group, dy.shape[3] // c.groups, 0).T
    return finite


@pytest.mark.parametrize("groups", [1, 2])
def test_no_rows(groups):
    layer = conv2d(4, 3, groups=groups)
    params, state, _ = layer.init(jax.random.key(0), (6, 6, 2))
    x = jnp.zeros((0, 6, 6, 2))
    y, _, cache = layer.forward(params, state, x, None, False)
    dparams, dx = layer.backward(params, cache, y)
    by_jax = jax.grad(lambda params: layer.forward(params, state, x, None, False)[0].sum())(params)
    assert y.shape == (0, 6, 6, 4) and dx.shape == x.shape
    for leaf in jax.tree.leaves((dparams, by_jax)):
        assert not leaf.any()


def test_over_several_devices_the_derivative_by_weights_is_summed_by_jax():
    """What `shard_map` does with parameters that all devices share; without it the derivative is one device's."""
    layer = conv2d(4, 3)
    params, state, _ = layer.init(jax.random.key(0), (6, 6, 1))

    def cost(params, x):
        return (layer.forward(params, state, x, None, False)[0] ** 2).sum()

    mesh, by_rows = AbstractMesh((2,), ("rows",), axis_types=(AxisType.Auto,)), P("rows")
    each_row = jax.vmap(jax.grad(cost), (None, 0))  # summed over the rows in the same place on each device
    for derivative, shape in [(jax.grad(cost), (8, 6, 6, 1)), (each_row, (8, 1, 6, 6, 1))]:
        sharded = jax.shard_map(derivative, mesh=mesh, in_specs=(P(), by_rows), out_specs=P())
        traced = str(jax.make_jaxpr(sharded)(params, jnp.ones(shape)))
        assert traced.count("psum") == 2  # w and b
