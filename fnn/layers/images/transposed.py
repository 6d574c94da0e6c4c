"""The convolution that makes images larger: the way back of `conv2d` as a layer."""

from fnn.arguments import as_floats
from fnn.factories import factory
from fnn.kernels import convolution
from fnn.kernels.convolution import Convolution
from fnn.kernels.windows import Padding, describe_window, window_spec
from fnn.layers.images.weights import kernel_spec
from fnn.layers.linear import Initial
from fnn.types import Array, Cache, Key, Layer, Params, Shape, State, Train


@factory
def conv_transpose2d(
    features: int,
    window: int | tuple[int, int],
    stride: int | tuple[int, int] = (1, 1),
    padding: Padding = "SAME",
    dilation: int | tuple[int, int] = (1, 1),
    groups: int = 1,
    bias: bool = True,
    weight_init: Initial | None = None,
    bias_init: Initial = 0.0,
) -> Layer:
    """A transposed convolution of images: each number of `x` adds the kernel, times itself, to a place of `y`.

    `y[n, i s - p + k d, j s' - p' + l d', o] = b[o] + Σ x[n, i, j, c] w[k, l, o, c]`, the sum over all `i, j, k, l, c`
    that reach the place, with strides `s s'`, dilations `d d'`, and `p p'` rows above and columns left that are cut
    off. With stride 2 and padding "SAME" images become twice as large. It is the derivative of `conv2d` by its inputs:
    a `conv2d` from `y` to `x` with the same `w` has `y` where this layer has `x`, and the other way round.

    Backward, with the products of `conv2d` once more, `dy` beyond the image being 0:
    `dx[n, i, j, c] = Σ_{k, l, o} dy[n, i s - p + k d, j s' - p' + l d', o] w[k, l, o, c]`,
    `dw[k, l, o, c] = Σ_{n, i, j} x[n, i, j, c] dy[n, i s - p + k d, j s' - p' + l d', o]`,
    `db[o] = Σ_{n, i, j} dy[n, i, j, o]`. Zeiler et al. 2010, doi:10.1109/CVPR.2010.5539957.

    Coming from elsewhere: `w` lies as in Keras; PyTorch has `w.transpose(3, 2, 0, 1)`. PyTorch's `padding=p` with
    `output_padding=q` is `padding=((p, p - q), (p, p - q))` here.

    Args:
        features: number of output channels, at least 1.
        window: (height, width) of the kernel, at least 1 each; one number for both.
        stride: how far apart in `y` neighbours of `x` are, down and to the right.
        padding: what is cut off. "SAME": as much as gives `height × stride` rows and `width × stride` columns, half of
            it on each side and an odd one below or on the right; "VALID": none, which gives
            `(height - 1) × stride + d (k - 1) + 1` rows; or ((top, bottom), (left, right)).
        dilation: how far apart neighbours of the window are in `y`.
        groups: channels and features are cut into so many groups, and each group of channels reaches one group of
            features. Divides both.
        bias: whether there is a `b`.
        weight_init, bias_init: as in `dense`; the default draws weights from a normal distribution with mean 0 and
            standard deviation `sqrt(1/fan_in)`, where `fan_in = ⌈kh/s⌉ × ⌈kw/s'⌉ × channels/groups`: of so many numbers
            an output is the sum, at most.

    Returns:
        A layer from `(batch, height, width, channels)` to `(batch, rows, columns, features)` with params
        `{"w": (kh, kw, features/groups, channels), "b": (features,)}`. Integer inputs are converted.

    Raises:
        ValueError: an argument is out of its range, or features cannot be cut into groups.
        ShapeError: examples are not images, nothing is left of them, or their channels cannot be cut into groups.

    >>> import fnn, jax
    >>> layer = fnn.conv_transpose2d(3, (5, 5), stride=2)
    >>> params, state, out_shape = layer.init(jax.random.key(0), (14, 14, 20))
    >>> print(params["w"].shape, params["b"].shape, out_shape)
    (5, 5, 3, 20) (3,) (28, 28, 3)
    """
    example, shown = "conv_transpose2d(20, (5, 5))", describe_window(window)
    kernel = kernel_spec("conv_transpose2d", shown, example, features, groups, bias, weight_init, bias_init)
    name, features, groups, bias, *_ = kernel
    slide = window_spec(name, window, stride, padding, dilation)

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        rows, columns = slide.reaching(name, in_shape)
        kernel.check_groups(in_shape)
        shape = (*slide.window, features // groups, in_shape[-1])
        fan_in = -(-rows.size // rows.stride) * -(-columns.size // columns.stride) * (in_shape[-1] // groups)
        return kernel.initial(key, shape, fan_in), (), (rows.numbers, columns.numbers, features)

    def over(x_shape: Shape, w: Array) -> Convolution:
        """The convolution from the outputs to the inputs."""
        kernel.check_inputs(x_shape, "height, width", w.shape[3])
        return Convolution(*slide.reaching(name, x_shape[1:]), groups)

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x, w = as_floats(name, x), params["w"]
        return kernel.add_bias(params, convolution.input_gradient(x, w, over(x.shape, w))), state, x

    def backward(params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
        w = params["w"]
        c = over(x.shape, w)
        dparams = {"w": convolution.weight_gradient(dy, x, c)}
        if bias:
            dparams["b"] = dy.sum((0, 1, 2))
        return dparams, convolution.forward(dy, w, c)

    return Layer(None, init, forward, backward)
