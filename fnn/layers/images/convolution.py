"""The convolution of images, and the layer that makes vectors of them."""

from math import prod

from fnn.arguments import as_floats
from fnn.factories import factory
from fnn.kernels import convolution
from fnn.kernels.convolution import Convolution
from fnn.kernels.windows import Padding, describe_window, window_spec
from fnn.layers.images.weights import kernel_spec
from fnn.layers.linear import Initial
from fnn.types import Array, Cache, Key, Layer, Params, Shape, State, Train


@factory
def conv2d(
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
    """A convolution of images: at each place of a sliding window a fully connected layer, with the same weights.

    `y[n, i, j, o] = b[o] + Σ_{k, l, c} x[n, i s - p + k d, j s' - p' + l d', c] w[k, l, c, o]`, with strides `s s'`,
    dilations `d d'`, and `p p'` rows above and columns left of padding, which are 0 as all beyond the image is. As
    everywhere in the field, the window is not turned round: strictly a cross-correlation.

    Backward: `dw[k, l, c, o] = Σ_{n, i, j} x[n, i s - p + k d, j s' - p' + l d', c] dy[n, i, j, o]`,
    `db[o] = Σ_{n, i, j} dy[n, i, j, o]`, and `dx[n, i s - p + k d, j s' - p' + l d', c]` is the sum, over all that
    reach it, of `Σ_o dy[n, i, j, o] w[k, l, c, o]`. LeCun et al. 1998, doi:10.1109/5.726791.
    `fnn/kernels/convolution.py` has how they are computed, on a CPU and elsewhere.

    Args:
        features: number of output channels, at least 1.
        window: (height, width) of the kernel, at least 1 each; one number for both.
        stride: by how much the window moves on, down and to the right.
        padding: "SAME": as much as gives `⌈height/stride⌉ × ⌈width/stride⌉` outputs, half of it on each side and an
            odd one below or on the right; "VALID": none; or ((top, bottom), (left, right)).
        dilation: how far apart neighbours of the window are in the image.
        groups: channels and features are cut into so many groups, and each group of features sees one group of
            channels; with as many groups as channels it is a depthwise convolution. Divides both.
        bias: whether there is a `b`.
        weight_init, bias_init: as in `dense`; the default draws weights from a normal distribution with mean 0 and
            standard deviation `sqrt(1/fan_in)`, where `fan_in = height × width × channels/groups` of the window.

    Returns:
        A layer from `(batch, height, width, channels)` to `(batch, rows, columns, features)` with params
        `{"w": (kh, kw, channels/groups, features), "b": (features,)}`. Integer inputs are converted.

    Raises:
        ValueError: an argument is out of its range, or features cannot be cut into groups.
        ShapeError: examples are not images, smaller than the window, or have channels that cannot be cut into groups.

    >>> import fnn, jax
    >>> layer = fnn.conv2d(20, (5, 5), stride=(2, 2))
    >>> params, state, out_shape = layer.init(jax.random.key(0), (28, 28, 3))
    >>> print(params["w"].shape, params["b"].shape, out_shape)
    (5, 5, 3, 20) (20,) (14, 14, 20)
    """
    kernel = kernel_spec(
        "conv2d", describe_window(window), "conv2d(20, (5, 5))", features, groups, bias, weight_init, bias_init
    )
    name, features, groups, bias, *_ = kernel
    slide = window_spec(name, window, stride, padding, dilation)

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        rows, columns = slide.over(name, in_shape)
        kernel.check_groups(in_shape)
        shape = (*slide.window, in_shape[-1] // groups, features)
        return kernel.initial(key, shape, prod(shape[:3])), (), (rows.outputs, columns.outputs, features)

    def over(x_shape: Shape, w: Array) -> Convolution:
        kernel.check_inputs(x_shape, "height, width", groups * w.shape[2])
        return Convolution(*slide.over(name, x_shape[1:]), groups)

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x, w = as_floats(name, x), params["w"]
        return kernel.add_bias(params, convolution.forward(x, w, over(x.shape, w))), state, x

    def backward(params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
        w = params["w"]
        c = over(x.shape, w)
        dparams = {"w": convolution.weight_gradient(x, dy, c)}
        if bias:
            dparams["b"] = dy.sum((0, 1, 2))
        return dparams, convolution.input_gradient(dy, w, c)

    return Layer(None, init, forward, backward)


@factory
def flatten() -> Layer:
    """Each example as one vector: `(batch, height, width, channels)` to `(batch, height × width × channels)`.

    In row-major order, channels fastest. Backward: `dx` is `dy` in the shape of `x`. Examples of any shape.

    >>> import fnn, jax
    >>> fnn.flatten().init(jax.random.key(0), (4, 4, 50))[2]
    (800,)
    """

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        return (), (), (prod(in_shape),)

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        return x.reshape(x.shape[0], prod(x.shape[1:])), state, x

    def backward(params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
        return (), dy.reshape(x.shape)

    return Layer(None, init, forward, backward)
