"""Convolutional layers: each against its formula, a loop over the places of the window; and augmentation."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.derivatives.layers import Formula, LayerCase, of_layer
from experiments.derivatives.regimes import QUICK
from fnn.layers import noise
from fnn.layers.images import augmentation, pooling
from fnn.layers.images.convolution import conv2d, flatten
from fnn.layers.images.sequences import conv1d
from fnn.layers.images.transposed import conv_transpose2d
from fnn.layers.images.upsampling import upsample

IMAGE = (5, 4, 2)
STEPS = (6, 2)
NONE = ((0, 0), (0, 0))

# ---- the formulas


def windows(x: Any, size: Any, stride: Any, pads: Any, dilation: Any = (1, 1), fill: float = 0.0) -> list[Any]:
    """What each place of the window sees, in row-major order."""
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    spans = [d * (k - 1) + 1 for k, d in zip(size, dilation, strict=True)]
    rows, columns = ([*range(0, n - span + 1, s)] for n, span, s in zip(x.shape[1:3], spans, stride, strict=True))
    starts = [(k * dilation[0], m * dilation[1]) for k in range(size[0]) for m in range(size[1])]
    return [x[:, k : k + rows[-1] + 1 : stride[0], m : m + columns[-1] + 1 : stride[1]] for k, m in starts]


def convolution(pads: Any = NONE, stride: Any = (1, 1), dilation: Any = (1, 1), groups: int = 1) -> Formula:
    """Σ over the places of what each sees times its matrix, group by group."""

    def formula(params: Any, x: Any, given: Any) -> Any:
        w = params["w"]
        seen = windows(x, w.shape[:2], stride, pads, dilation)
        inputs = [jnp.split(part, groups, -1) for part in seen]
        weights = [jnp.split(part, groups, -1) for part in w.reshape(-1, *w.shape[2:])]
        y = sum(
            jnp.concatenate([jnp.einsum("nijc,co->nijo", a, b) for a, b in zip(x, w, strict=True)], -1)
            for x, w in zip(inputs, weights, strict=True)
        )
        return y + params["b"] if "b" in params else y

    return formula


def sequences(pads: tuple[int, int] = (0, 0), stride: int = 1, dilation: int = 1, groups: int = 1) -> Formula:
    """The convolution of images one row high."""
    of_images = convolution(((0, 0), pads), (1, stride), (1, dilation), groups)

    def formula(params: Any, x: Any, given: Any) -> Any:
        return of_images({**params, "w": params["w"][None]}, x[:, None], given)[:, 0]

    return formula


def transposed(pads: Any = NONE, stride: Any = (1, 1), dilation: Any = (1, 1), groups: int = 1) -> Formula:
    """Each place of the kernel, times all inputs, added where it reaches; then the padding cut off."""

    def formula(params: Any, x: Any, given: Any) -> Any:
        kh, kw = params["w"].shape[:2]
        high, wide = (
            (n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(x.shape[1:3], stride, dilation, (kh, kw), strict=True)
        )
        y = jnp.zeros((len(x), high, wide, groups * params["w"].shape[2]), x.dtype)
        inputs, weights = jnp.split(x, groups, -1), jnp.split(params["w"], groups, -1)
        for k in range(kh):
            for m in range(kw):
                part = [jnp.einsum("nijc,oc->nijo", a, w[k, m]) for a, w in zip(inputs, weights, strict=True)]
                rows = slice(k * dilation[0], k * dilation[0] + (x.shape[1] - 1) * stride[0] + 1, stride[0])
                columns = slice(m * dilation[1], m * dilation[1] + (x.shape[2] - 1) * stride[1] + 1, stride[1])
                y = y.at[:, rows, columns].add(jnp.concatenate(part, -1))
        (top, bottom), (left, right) = pads
        y = y[:, top : high - bottom, left : wide - right]
        return y + params["b"] if "b" in params else y

    return formula


def enlarged(factor: tuple[int, int], share: Callable[[Any, Any, int], Any]) -> Formula:
    """A product with a matrix for the rows and one for the columns: how much of each input is in each output."""

    def formula(params: Any, x: Any, given: Any) -> Any:
        down, right = (
            share(jnp.arange(n * f)[:, None], jnp.arange(n), f) for n, f in zip(x.shape[1:3], factor, strict=True)
        )
        return jnp.einsum("ia,jb,nabc->nijc", down.astype(x.dtype), right.astype(x.dtype), x)

    return formula


def _nearest(place: Any, number: Any, factor: int) -> Any:
    return place // factor == number


def _linear(place: Any, number: Any, factor: int) -> Any:
    """A tent over the centre of each input, its middle clipped to the image."""
    middle = jnp.clip((place + 0.5) / factor - 0.5, 0, len(number) - 1)
    return jnp.maximum(1 - abs(middle - number), 0)


def _aligned_corners(place: Any, number: Any, factor: int) -> Any:
    middle = place * (len(number) - 1) / max(len(number) * factor - 1, 1)
    return jnp.maximum(1 - abs(middle - number), 0)


def largest(size: Any, stride: Any, pads: Any = NONE) -> Formula:
    """The first of the largest."""

    def formula(params: Any, x: Any, given: Any) -> Any:
        seen = jnp.stack(windows(x, size, stride, pads, fill=-jnp.inf))
        return jnp.take_along_axis(seen, seen.argmax(0)[None], 0)[0]

    return formula


def mean(size: Any, stride: Any, pads: Any = NONE) -> Formula:
    """Of the numbers that are not padding."""

    def formula(params: Any, x: Any, given: Any) -> Any:
        return sum(windows(x, size, stride, pads)) / sum(windows(jnp.ones_like(x), size, stride, pads))

    return formula


def _whole_mean(params: Any, x: Any, given: Any) -> Any:
    return x.sum(2).sum(1) / 20


def _drawn(given: Any, batch: int, most: Any) -> Any:
    share = jax.random.uniform(jax.random.wrap_key_data(given["key"]), (batch, 2), jnp.float32)
    return jnp.floor(share * jnp.asarray(most, jnp.float32)).astype(jnp.int32)


def moved(x: Any, by: Any, rows: int, columns: int) -> Any:
    """`y[n, i, j] = x[n, i + by[n, 0], j + by[n, 1]]` as a product with matrices of 0 and 1."""
    down = jnp.arange(rows, dtype=jnp.int32)[:, None] + by[:, :1, None] == jnp.arange(x.shape[1], dtype=jnp.int32)
    right = jnp.arange(columns, dtype=jnp.int32)[:, None] + by[:, 1:, None] == jnp.arange(x.shape[2], dtype=jnp.int32)
    return jnp.einsum("nia,njb,nabc->nijc", down.astype(x.dtype), right.astype(x.dtype), x)


def _shifted(params: Any, x: Any, given: Any) -> Any:
    return moved(x, _drawn(given, len(x), (5, 5)) - 2, *x.shape[1:3])


def _cropped(params: Any, x: Any, given: Any) -> Any:
    return moved(x, _drawn(given, len(x), (4, 3)), 2, 2)


def _flipped(vertical: bool) -> Formula:
    def formula(params: Any, x: Any, given: Any) -> Any:
        drawn = jax.random.uniform(jax.random.wrap_key_data(given["key"]), x.shape[:1], jnp.float32) < 0.5
        turned = x[:, ::-1] if vertical else x[:, :, ::-1]
        return jnp.einsum("n,nijc->nijc", drawn.astype(x.dtype), turned) + jnp.einsum(
            "n,nijc->nijc", (~drawn).astype(x.dtype), x
        )

    return formula


def _noisy(params: Any, x: Any, given: Any) -> Any:
    return x + 0.1 * jax.random.normal(jax.random.wrap_key_data(given["key"]), x.shape, jnp.float32).astype(x.dtype)


# ---- how they could be wrong: the derivative of another formula


def of_another(formula: Formula, spoil: Callable[[Any], Any] = lambda at: at) -> Callable[[Any, Any, Any], Any]:
    """The derivatives of a formula that is not the layer's, or at another point."""

    @partial(jax.jit, compiler_options=QUICK)
    def rule(at: Any, given: Any, dy: Any) -> Any:
        pull = jax.vjp(lambda at: formula(at["params"], at["x"], given), spoil(at))[1]
        return pull(dy)[0]

    return rule


def _with_w(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda at: {**at, "params": {**at["params"], "w": change(at["params"]["w"])}}


def _mean_db(formula: Formula) -> Callable[[Any, Any, Any], Any]:
    def rule(at: Any, given: Any, dy: Any) -> Any:
        right = of_another(formula)(at, given, dy)
        return {**right, "params": {**right["params"], "b": dy.mean((0, 1, 2))}}

    return rule


def _all_that_tie(at: Any, given: Any, dy: Any) -> Any:
    """All of `dy` to the last place of the window, wherever the largest is."""
    last = lambda params, x, given: windows(x, (2, 2), (2, 2), NONE)[-1]  # noqa: E731
    return of_another(last)(at, given, dy)


SAME = ((0, 1), (1, 1))  # a window of 2 × 3: an odd row of padding goes below
CONV_MISTAKES = {
    "dx by the kernel not turned": of_another(convolution(SAME), _with_w(lambda w: w[::-1, ::-1])),
    "dw from the inputs one row on": of_another(convolution(SAME), lambda at: {**at, "x": jnp.roll(at["x"], 1, 1)}),
    "the odd row of padding above": of_another(convolution(((1, 0), (1, 1)))),
    "db as a mean": _mean_db(convolution(SAME)),
}
GROUP_MISTAKES = {
    "features of the groups mixed up": of_another(
        convolution(NONE, (2, 1), (1, 2), 2), _with_w(lambda w: jnp.roll(w, 2, -1))
    ),
    "dilation left out": of_another(
        lambda params, x, given: convolution(NONE, (2, 1), (1, 1), 2)(params, x[:, :, :-1], given)
    ),
}  # fmt: skip
SEQUENCE_MISTAKES = {
    "dx by the kernel not turned": of_another(sequences((1, 1)), _with_w(lambda w: w[::-1])),
    "dw from the inputs one step on": of_another(sequences((1, 1)), lambda at: {**at, "x": jnp.roll(at["x"], 1, 1)}),
    "all padding before": of_another(sequences((2, 0))),
}
CAUSAL_MISTAKES = {
    "a step of the future seen": of_another(lambda params, x, given: sequences((3, 1), 2, 2, 2)(params, x, given)),
    "dilation left out": of_another(sequences((2, 0), 2, 1, 2)),
    "features of the groups mixed up": of_another(sequences((4, 0), 2, 2, 2), _with_w(lambda w: jnp.roll(w, 2, -1))),
}
TRANSPOSED_MISTAKES = {
    "the kernel turned": of_another(transposed(((0, 0), (0, 1)), (2, 2)), _with_w(lambda w: w[::-1, ::-1])),
    "the odd column cut off on the left": of_another(transposed(((0, 0), (1, 0)), (2, 2))),
    "dw from the inputs one row on": of_another(
        transposed(((0, 0), (0, 1)), (2, 2)), lambda at: {**at, "x": jnp.roll(at["x"], 1, 1)}
    ),
    "features and channels changed": of_another(
        transposed(((0, 0), (0, 1)), (2, 2)), _with_w(lambda w: jnp.swapaxes(w, 2, 3))
    ),
}
NEAREST_MISTAKES = {
    "a mean, not a sum": lambda at, given, dy: {
        "params": (),
        "x": dy.reshape(*dy.shape[:1], 5, 2, 4, 3, 2).mean((2, 4)),
    },
    "the first of each block": lambda at, given, dy: {"params": (), "x": dy[:, ::2, ::3]},
    "rows and columns changed": lambda at, given, dy: {
        "params": (),
        "x": dy.reshape(*dy.shape[:1], 2, 5, 3, 4, 2).sum((1, 3)),
    },
}
LINEAR_MISTAKES = {
    "corners aligned": of_another(enlarged((2, 3), _aligned_corners)),
    "nearest": of_another(enlarged((2, 3), _nearest)),
    "nothing beyond the edge": of_another(
        enlarged((2, 3), lambda place, number, f: jnp.maximum(1 - abs((place + 0.5) / f - 0.5 - number), 0))
    ),
}  # fmt: skip
MAX_MISTAKES = {
    "dy to the last place": _all_that_tie,
    "dy shared among all places": of_another(mean((2, 2), (2, 2))),
    "dy to the smallest": of_another(lambda params, x, given: -largest((2, 2), (2, 2))(params, -x, given)),
}
AVG_MISTAKES = {
    "padding counts": of_another(lambda params, x, given: sum(windows(x, (3, 2), (2, 1), ((1, 1), (0, 1)))) / 6),
    "a sum, not a mean": of_another(lambda params, x, given: sum(windows(x, (3, 2), (2, 1), ((1, 1), (0, 1))))),
    "the other stride": of_another(lambda params, x, given: mean((3, 2), (2, 1), ((0, 2), (0, 1)))(params, x, given)),
}
GLOBAL_MISTAKES = {
    "a sum, not a mean": of_another(lambda params, x, given: x.sum((1, 2))),
    "over the rows alone": of_another(lambda params, x, given: x.sum((1, 2)) / x.shape[1]),
}
FLATTEN_MISTAKES = {
    "channels first": of_another(lambda params, x, given: x.transpose(0, 3, 1, 2).reshape(len(x), -1)),
    "columns before rows": of_another(lambda params, x, given: x.transpose(0, 2, 1, 3).reshape(len(x), -1)),
}
SHIFT_MISTAKES = {
    "moved on, not back": of_another(lambda params, x, given: moved(x, 2 - _drawn(given, len(x), (5, 5)), *IMAGE[:2])),
    "not moved": of_another(lambda params, x, given: x),
    "round the edge": lambda at, given, dy: {
        "params": (),
        "x": jax.vmap(lambda d, by: jnp.roll(d, by, (0, 1)))(dy, _drawn(given, len(dy), (5, 5)) - 2),
    },
}  # fmt: skip
CROP_MISTAKES = {
    "always from the middle": of_another(lambda params, x, given: moved(x, jnp.ones((len(x), 2), jnp.int32), 2, 2)),
    "rows and columns changed": of_another(
        lambda params, x, given: moved(x, _drawn(given, len(x), (4, 3))[:, ::-1], 2, 2)
    ),
}
FLIP_MISTAKES = {
    "all mirrored": of_another(lambda params, x, given: x[:, :, ::-1]),
    "none mirrored": of_another(lambda params, x, given: x),
    "top and bottom": of_another(_flipped(True)),
}
NOISE_MISTAKES = {
    "noise in dy": lambda at, given, dy: {"params": (), "x": dy * (1 + _noisy((), 0 * dy, given))},
    "scaled": lambda at, given, dy: {"params": (), "x": 1.1 * dy},
}
RESCALE_MISTAKES = {
    "divided": lambda at, given, dy: {"params": (), "x": dy / 0.25},
    "offset in dy": lambda at, given, dy: {"params": (), "x": 0.25 * dy - 0.5},
}

FALLING = -np.arange(40.0).reshape(IMAGE)  # towards it the first of equals in row-major order is the largest
LAYERS = [
    LayerCase("conv2d", conv2d(3, (2, 3)), convolution(SAME), CONV_MISTAKES, in_shape=IMAGE),
    LayerCase(
        "conv2d",
        conv2d(4, (3, 2), stride=(2, 1), padding="VALID", dilation=(1, 2), groups=2, bias=False),
        convolution(NONE, (2, 1), (1, 2), 2),
        GROUP_MISTAKES,
        in_shape=IMAGE,
    ),
    LayerCase("conv1d", conv1d(3, 3), sequences((1, 1)), SEQUENCE_MISTAKES, in_shape=STEPS),
    LayerCase(
        "conv1d",
        conv1d(4, 3, stride=2, padding="CAUSAL", dilation=2, groups=2, bias=False),
        sequences((4, 0), 2, 2, 2),
        CAUSAL_MISTAKES,
        in_shape=STEPS,
    ),
    LayerCase(
        "conv_transpose2d",
        conv_transpose2d(2, (2, 3), stride=2),
        transposed(((0, 0), (0, 1)), (2, 2)),
        TRANSPOSED_MISTAKES,
        in_shape=IMAGE,
    ),
    LayerCase(
        "conv_transpose2d",
        conv_transpose2d(4, 2, stride=(1, 3), padding=((1, 0), (0, 2)), dilation=(2, 1), groups=2, bias=False),
        transposed(((1, 0), (0, 2)), (1, 3), (2, 1), 2),
        in_shape=IMAGE,
    ),
    LayerCase("upsample", upsample((2, 3)), enlarged((2, 3), _nearest), NEAREST_MISTAKES, in_shape=IMAGE),
    LayerCase("upsample", upsample((2, 3), "bilinear"), enlarged((2, 3), _linear), LINEAR_MISTAKES, in_shape=IMAGE),
    LayerCase("upsample", upsample(1, "bilinear"), enlarged((1, 1), _linear), in_shape=(1, 3, 2)),
    LayerCase(
        "max_pool",
        pooling.max_pool(2),
        largest((2, 2), (2, 2)),
        MAX_MISTAKES,
        (("all that a window pools are equal", "the first's in row-major order", FALLING),),
        in_shape=IMAGE,
    ),
    LayerCase(
        "max_pool",
        pooling.max_pool((3, 2), (1, 2), "SAME"),
        largest((3, 2), (1, 2), ((1, 1), (0, 0))),
        kinks=(("all that overlapping windows pool are equal", "the first's in row-major order", FALLING),),
        in_shape=IMAGE,
    ),
    LayerCase(
        "avg_pool",
        pooling.avg_pool((3, 2), (2, 1), "SAME"),
        mean((3, 2), (2, 1), ((1, 1), (0, 1))),
        AVG_MISTAKES,
        in_shape=IMAGE,
    ),
    LayerCase("global_avg_pool", pooling.global_avg_pool(), _whole_mean, GLOBAL_MISTAKES, in_shape=IMAGE),
    LayerCase("flatten", flatten(), lambda p, x, g: x.reshape(len(x), 40), FLATTEN_MISTAKES, in_shape=IMAGE),
    LayerCase("random_shift", augmentation.random_shift(2), _shifted, SHIFT_MISTAKES, in_shape=IMAGE),
    LayerCase("random_crop", augmentation.random_crop(2, 2), _cropped, CROP_MISTAKES, in_shape=IMAGE),
    LayerCase("random_flip", augmentation.random_flip(), _flipped(False), FLIP_MISTAKES, in_shape=IMAGE),
    LayerCase("random_flip", augmentation.random_flip(vertical=True), _flipped(True), in_shape=IMAGE),
    LayerCase("gaussian_noise", noise.gaussian_noise(0.1), _noisy, NOISE_MISTAKES, in_shape=IMAGE),
    LayerCase(
        "rescale", augmentation.rescale(0.25, -0.5), lambda p, x, g: 0.25 * x - 0.5, RESCALE_MISTAKES, in_shape=IMAGE
    ),
]  # fmt: skip

RECORDS = {f"{case.layer} on {case.in_shape}": partial(of_layer, "layer", case) for case in LAYERS}
