"""The convolution of sequences: that of images one row high."""

from math import prod
from typing import NamedTuple

from fnn import arguments
from fnn.arguments import as_floats
from fnn.factories import factory
from fnn.kernels import convolution
from fnn.kernels.convolution import Convolution
from fnn.kernels.windows import Windows, axis_windows
from fnn.layers.images.weights import kernel_spec
from fnn.layers.linear import Initial
from fnn.types import Array, Cache, Key, Layer, Params, Shape, ShapeError, State, Train

SequencePadding = str | tuple[int, int]  # "SAME", "VALID", "CAUSAL" or (before, after)


@factory
def conv1d(
    features: int,
    window: int,
    stride: int = 1,
    padding: SequencePadding = "SAME",
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
    weight_init: Initial | None = None,
    bias_init: Initial = 0.0,
) -> Layer:
    """A convolution of sequences: at each place of a sliding window a fully connected layer, with the same weights.

    `y[n, i, o] = b[o] + Σ_{k, c} x[n, i s - p + k d, c] w[k, c, o]`, with stride `s`, dilation `d`, and `p` steps of
    padding before the first one, which are 0 as all beyond the sequence is. The window is not turned round, as in
    `conv2d`.

    Backward: `dw[k, c, o] = Σ_{n, i} x[n, i s - p + k d, c] dy[n, i, o]`, `db[o] = Σ_{n, i} dy[n, i, o]`, and
    `dx[n, i s - p + k d, c]` is the sum, over all that reach it, of `Σ_o dy[n, i, o] w[k, c, o]`. They are the three
    products of `conv2d` on images one row high, and as fast.

    Args:
        features: number of output channels, at least 1.
        window: how many steps the kernel sees, at least 1.
        stride: by how many steps the window moves on.
        padding: "SAME": as much as gives `⌈steps/stride⌉` outputs, half of it on each side and an odd one after the
            last step; "VALID": none; "CAUSAL": all before the first step, so that no output sees a later input; or
            (before, after).
        dilation: how many steps apart neighbours of the window are.
        groups: channels and features are cut into so many groups, as in `conv2d`. Divides both.
        bias: whether there is a `b`.
        weight_init, bias_init: as in `dense`; the default draws weights from a normal distribution with mean 0 and
            standard deviation `sqrt(1/fan_in)`, where `fan_in = window × channels/groups`.

    Returns:
        A layer from `(batch, steps, channels)` to `(batch, outputs, features)` with params
        `{"w": (window, channels/groups, features), "b": (features,)}`. Integer inputs are converted.

    Raises:
        ValueError: an argument is out of its range, or features cannot be cut into groups.
        ShapeError: examples are not sequences, shorter than the window, or have channels that cannot be cut into
            groups.

    >>> import fnn, jax
    >>> layer = fnn.conv1d(20, 5, stride=2)
    >>> params, state, out_shape = layer.init(jax.random.key(0), (100, 3))
    >>> print(params["w"].shape, params["b"].shape, out_shape)
    (5, 3, 20) (20,) (50, 20)
    """
    shown = str(window) if isinstance(window, int) else arguments.describe_value(window)
    kernel = kernel_spec("conv1d", shown, "conv1d(20, 5)", features, groups, bias, weight_init, bias_init)
    name, features, groups, bias, *_ = kernel
    slide = sequence_spec(name, window, stride, padding, dilation)

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        steps = slide.over(name, in_shape)
        kernel.check_groups(in_shape)
        shape = (slide.window, in_shape[-1] // groups, features)
        return kernel.initial(key, shape, prod(shape[:2])), (), (steps.outputs, features)

    def over(x_shape: Shape, w: Array) -> Convolution:
        kernel.check_inputs(x_shape, "steps", groups * w.shape[1])
        return Convolution(Windows(1, 1), slide.over(name, x_shape[1:]), groups)

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x, w = as_floats(name, x), params["w"]
        y = convolution.forward(x[:, None], w[None], over(x.shape, w))[:, 0]
        return kernel.add_bias(params, y), state, x

    def backward(params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
        w = params["w"]
        c = over(x.shape, w)
        dparams = {"w": convolution.weight_gradient(x[:, None], dy[:, None], c)[0]}
        if bias:
            dparams["b"] = dy.sum((0, 1))
        return dparams, convolution.input_gradient(dy[:, None], w[None], c)[:, 0]

    return Layer(None, init, forward, backward)


class SequenceSpec(NamedTuple):
    """A window over sequences as a layer was asked for it, checked; "CAUSAL" padding as numbers."""

    window: int
    stride: int
    padding: str | tuple[int, int]
    dilation: int

    def over(self, name: str, in_shape: Shape) -> Windows:
        """The windows over the steps of a sequence; a ShapeError if there is none."""
        if len(in_shape) != 2 or min(in_shape) < 1:
            hint = "Add an axis of one channel: x[..., None]." if len(in_shape) == 1 else "Use conv2d for images."
            raise ShapeError(f"{name}: expected sequences of shape (steps, channels), got {in_shape}. {hint}")
        steps = axis_windows(in_shape[0], self.window, self.stride, self.dilation, self.padding)
        if steps.outputs < 1:
            raise ShapeError(
                f"{name}: expected at least {steps.span - steps.low - steps.high} steps, got {in_shape[0]} from "
                f"{in_shape}. Use a smaller window or padding='SAME'."
            )
        return steps


def sequence_spec(name: str, window: int, stride: int, padding: SequencePadding, dilation: int) -> SequenceSpec:
    """A window as it was asked for, checked."""
    window, stride, dilation = (
        arguments.whole_number(name, value, 1, f"Write {part}=2.", what=f"{part} to be a whole number")
        for part, value in (("window", window), ("stride", stride), ("dilation", dilation))
    )
    if padding == "CAUSAL":
        return SequenceSpec(window, stride, (dilation * (window - 1), 0), dilation)
    if isinstance(padding, str) and padding in ("SAME", "VALID"):
        return SequenceSpec(window, stride, padding, dilation)
    wanted, hint = "padding 'SAME', 'VALID', 'CAUSAL' or (before, after)", "Write padding='SAME'."
    if not isinstance(padding, tuple) or len(padding) != 2:
        raise ValueError(f"{name}: expected {wanted}, got {arguments.describe_value(padding)}. {hint}")
    before, after = (arguments.whole_number(name, n, 0, hint, what=wanted) for n in padding)
    return SequenceSpec(window, stride, (before, after), dilation)
