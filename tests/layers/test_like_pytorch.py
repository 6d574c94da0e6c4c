"""Layers against those of PyTorch, in float64: outputs and derivatives, by hand and by autodiff, at random shapes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from experiments.derivatives.regimes import QUICK
from tests.helpers.compare import normwise

torch = pytest.importorskip("torch")
F = torch.nn.functional
SHORT, LONG = 2, 100


class Draw:
    """Random whole numbers."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def whole(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def pair(self, low, high):
        return self.whole(low, high), self.whole(low, high)

    def one_of(self, *things):
        return things[self.whole(0, len(things) - 1)]


def channels_first(a):
    return a.moveaxis(-1, 1)


def channels_last(a):
    return a.moveaxis(1, -1)


# ---- (draw) -> layer, shape of an example, the same in PyTorch as a function of its tensors


def conv1d(d):
    window, stride, dilation, groups = d.whole(1, 4), d.whole(1, 3), d.whole(1, 3), d.whole(1, 3)
    channels, features, span = groups * d.whole(1, 3), groups * d.whole(1, 3), dilation * (window - 1) + 1
    steps = d.whole(span, span + 8)
    sides = d.one_of("CAUSAL", "VALID", d.pair(0, 3))
    before, after = {"CAUSAL": (span - 1, 0), "VALID": (0, 0)}.get(sides, sides)
    layer = fnn.conv1d(features, window, stride, sides, dilation, groups, bias=d.one_of(True, False))

    def theirs(p, x):
        x = F.pad(channels_first(x), (before, after))
        return channels_last(F.conv1d(x, p["w"].permute(2, 1, 0).contiguous(), p.get("b"), stride, 0, dilation, groups))

    return layer, (steps, channels), theirs


def conv1d_same(d):
    """PyTorch has "same" for a stride of 1."""
    window, dilation, channels = 2 * d.whole(0, 2) + 1, d.whole(1, 3), d.whole(1, 3)  # even ones warn

    def theirs(p, x):
        w = p["w"].permute(2, 1, 0).contiguous()
        return channels_last(F.conv1d(channels_first(x), w, p["b"], padding="same", dilation=dilation))

    return fnn.conv1d(d.whole(1, 4), window, dilation=dilation), (d.whole(1, 9), channels), theirs


def conv_transpose2d(d):
    """Padding as PyTorch has it, or cut off behind it."""
    window, stride, dilation, groups = d.pair(1, 4), d.pair(1, 3), d.pair(1, 2), d.whole(1, 3)
    shape = (*d.pair(2, 5), groups * d.whole(1, 3))
    sides = ((0, 0), (0, 0))
    most = [(n - 1) * s + g * (k - 1) for n, s, g, k in zip(shape, stride, dilation, window, strict=False)]
    if d.whole(0, 2):
        sides = tuple(d.one_of((0, 0), (0, min(1, m)), (min(1, m), 0), (m // 2, m - m // 2)) for m in most)
    layer = fnn.conv_transpose2d(groups * d.whole(1, 3), window, stride, sides, dilation, groups)

    def theirs(p, x):
        w = p["w"].permute(3, 2, 0, 1).contiguous()
        y = F.conv_transpose2d(channels_first(x), w, p["b"], stride, 0, 0, groups, dilation)
        (top, bottom), (left, right) = sides
        return channels_last(y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right])

    return layer, shape, theirs


def conv_transpose2d_padded(d):
    """`padding` and `output_padding` as the docstring translates them, and "SAME" where images become larger by s."""
    stride, more = d.whole(2, 3), 1
    window = 2 * d.whole(1, 2) + 1
    cut = (window - 1) // 2
    sides = "SAME" if (stride, window) == (2, 3) and d.whole(0, 1) else ((cut, cut - more),) * 2
    if sides == "SAME":  # one row in all, below and on the right
        cut, more, padding, crop = 0, 0, 0, 1
    else:
        padding, crop = cut, 0
    layer = fnn.conv_transpose2d(d.whole(1, 4), window, stride, sides)

    def theirs(p, x):
        w = p["w"].permute(3, 2, 0, 1).contiguous()
        y = F.conv_transpose2d(channels_first(x), w, p["b"], stride, padding, more)
        return channels_last(y[:, :, : y.shape[2] - crop, : y.shape[3] - crop])

    return layer, (*d.pair(2, 5), d.whole(1, 4)), theirs


def upsample(d):
    factor, method = d.pair(1, 5), d.one_of("nearest", "bilinear")
    more = {"align_corners": False} if method == "bilinear" else {}

    def theirs(p, x):
        return channels_last(F.interpolate(channels_first(x), scale_factor=factor, mode=method, **more))

    return fnn.upsample(factor, method), (*d.pair(1, 6), d.whole(1, 4)), theirs


def group_norm(d):
    groups, eps = d.whole(1, 4), d.one_of(1e-5, 1e-2)
    shape = (*[d.whole(1, 4) for _ in range(d.whole(0, 2))], groups * d.whole(2, 4))  # PyTorch refuses one number

    def theirs(p, x):
        return channels_last(F.group_norm(channels_first(x), groups, p["scale"], p["offset"], eps))

    return fnn.group_norm(groups, eps), shape, theirs


def rms_norm(d):
    shape, eps = (*[d.whole(1, 4) for _ in range(d.whole(0, 2))], d.whole(1, 8)), d.one_of(1e-6, 1e-2)
    return fnn.rms_norm(eps), shape, lambda p, x: F.rms_norm(x, shape[-1:], p["scale"], eps)


def embedding(d):
    size = d.whole(1, 20)
    layer = fnn.embedding(size, d.whole(1, 6))
    shape = tuple(d.whole(1, 4) for _ in range(d.whole(0, 2)))
    return layer, shape, lambda p, x: F.embedding(x.detach().long(), p["table"]) + 0 * x.sum()


LAYERS = [conv1d, conv1d_same, conv_transpose2d, conv_transpose2d_padded, upsample, group_norm, rms_norm, embedding]


def reference(case, seed):
    """A layer at a random shape, numbers for it, and what PyTorch makes of them."""
    d = Draw([LAYERS.index(case), seed])
    layer, shape, theirs = case(d)
    params, state, _ = layer.init(jax.random.key(seed), shape)
    params = jax.tree.map(lambda a: d.rng.normal(0.3, 1, a.shape), params)
    x = d.rng.normal(size=(d.whole(1, 5), *shape))
    if case is embedding:
        x = np.floor(params["table"].shape[0] * d.rng.random(x.shape))
    tensors = {name: torch.tensor(a, requires_grad=True) for name, a in params.items()} if params else {}
    inputs = torch.tensor(x, requires_grad=True)
    outputs = theirs(tensors, inputs)
    dy = d.rng.normal(size=outputs.shape)
    outputs.backward(torch.tensor(dy))
    slopes = {name: np.asarray(a.grad) for name, a in tensors.items()} or (), np.asarray(inputs.grad)
    return layer, (params, state, x, dy), (outputs.detach().numpy(), slopes)


def size_of_terms(layer, params, x, dy):
    """Of `dx`, which is a difference of terms of this size; of two numbers, or of one, all of their digits cancel."""
    groups = dict(layer.spec.arguments).get("groups", 0)
    eps = dict(layer.spec.arguments)["eps"]
    if groups:  # the variance over the space and the channels of a group
        each = np.moveaxis(x.reshape(len(x), -1, groups, x.shape[-1] // groups), 2, 1).reshape(len(x), groups, -1)
        squares = each.var(-1)
    else:
        squares = np.square(x).mean(-1)
    return np.abs(dy * params["scale"]).max() / np.sqrt(squares.min() + eps)


def difference(layer, numbers, expected):
    """How far outputs and derivatives are from PyTorch's, by hand and by autodiff; over the largest, or its terms."""
    params, state, x, dy = numbers
    least = size_of_terms(layer, params, x, dy) if layer.spec.factory in (fnn.group_norm, fnn.rms_norm) else 0.0

    @partial(jax.jit, compiler_options=QUICK)
    def ours(params, x, dy):
        y, _, cache = layer.forward(params, state, x, None, True)
        pull = jax.vjp(lambda params, x: layer.forward(params, state, x, None, True)[0], params, x)[1]
        return y, layer.backward(params, cache, dy), pull(dy)

    y, by_hand, by_autodiff = ours(params, jnp.asarray(x), dy)

    def slopes(got):
        dx, theirs = np.asarray(got[1]), expected[1][1]
        return max(
            normwise(got[0], expected[1][0]), np.abs(dx - theirs).max() / max(np.abs(theirs).max(), least, 1e-300)
        )

    return max(normwise(y, expected[0]), slopes(by_hand), slopes(by_autodiff))


def both(case, seed):
    """The difference, and of which layer and shape."""
    layer, numbers, expected = reference(case, seed)
    return difference(layer, numbers, expected), f"{layer} of {numbers[2].shape}"


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.__name__)
def test_a_layer_is_that_of_pytorch(case, x64):
    off = {name: error for error, name in (both(case, seed) for seed in range(SHORT)) if not error < 1e-12}
    assert off == {}


@pytest.mark.slow
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.__name__)
def test_a_layer_is_that_of_pytorch_at_a_hundred_shapes(case, x64):
    found = [both(case, seed) for seed in range(LONG)]
    assert len({name for _, name in found}) > LONG // 2
    print(f"{case.__name__}: {max(error for error, _ in found):.1e}")
    assert [name for error, name in found if not error < 1e-12] == []
