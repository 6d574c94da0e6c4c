"""Windows that slide over an axis: how many there are, the numbers at each place in them, and the way back.

The numbers at one place of all windows are a strided slice. It is taken by cutting the axis into blocks of `stride`
numbers, splitting those into their phases, and slicing the phases without a stride: so the way back, by hand and by
autodiff, joins phases and adds plain shifts, where a strided slice would go back through a slow pad with holes in it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn import arguments
from fnn.types import Array, Shape, ShapeError

# "SAME", "VALID" or ((top, bottom), (left, right))
Padding = str | tuple[tuple[int, int], tuple[int, int]]


class Windows(NamedTuple):
    """The windows over an axis of `numbers`, padded by `low` before and `high` after: those that fit whole."""

    numbers: int
    size: int
    stride: int = 1
    dilation: int = 1
    low: int = 0
    high: int = 0

    @property
    def span(self) -> int:
        """From the first place of a window to the last, both included."""
        return self.dilation * (self.size - 1) + 1

    @property
    def outputs(self) -> int:
        """How many there are: `⌊(low + numbers + high - span)/stride⌋ + 1`."""
        return (self.low + self.numbers + self.high - self.span) // self.stride + 1

    @property
    def places(self) -> list[tuple[int, int]]:
        """Each place of a window as (block, phase): whole strides from its beginning, and the rest."""
        return [divmod(self.dilation * i, self.stride) for i in range(self.size)]

    @property
    def blocks(self) -> int:
        """How many blocks of `stride` numbers the windows reach over, together."""
        return self.places[-1][0] + self.outputs


def taps(x: Array, axis: int, over: Windows, padding: float = 0) -> list[Array]:
    """For each place of a window, what all windows have there: `size` arrays with `outputs` numbers on the axis.

    >>> from fnn.kernels.windows import Windows, taps
    >>> import jax.numpy as jnp
    >>> print(*taps(jnp.arange(6), 0, Windows(6, size=3, stride=2)))
    [0 2] [1 3] [2 4]
    """
    x = _pad(x, axis, over.low, over.blocks * over.stride - over.numbers - over.low, padding)
    phases: Sequence[Array] = [x]
    if over.stride > 1:
        cut = x.reshape(*x.shape[:axis], over.blocks, over.stride, *x.shape[axis + 1 :])
        phases = [phase.squeeze(axis + 1) for phase in lax.split(cut, (1,) * over.stride, axis + 1)]
    return [lax.slice_in_dim(phases[phase], block, block + over.outputs, axis=axis) for block, phase in over.places]


def add_taps(parts: Sequence[Array], axis: int, over: Windows) -> Array:
    """The transpose of `taps`: each number becomes the sum of those in `parts` that were taken from it.

    >>> from fnn.kernels.windows import Windows, add_taps
    >>> import jax.numpy as jnp
    >>> print(add_taps([jnp.array([1, 2]), jnp.array([3, 4]), jnp.array([5, 6])], 0, Windows(6, size=3, stride=2)))
    [1 3 7 4 6 0]
    """
    phases: dict[int, Array] = {}
    for part, (block, phase) in zip(parts, over.places, strict=True):
        shifted = _pad(part, axis, block, over.blocks - over.outputs - block)
        phases[phase] = phases[phase] + shifted if phase in phases else shifted
    x = phases[0]  # which the first place always is in
    if over.stride > 1:
        joined = jnp.stack([phases.get(i, jnp.zeros_like(x)) for i in range(over.stride)], axis + 1)
        x = joined.reshape(*x.shape[:axis], over.blocks * over.stride, *x.shape[axis + 1 :])
    return _pad(x, axis, -over.low, over.numbers + over.low - over.blocks * over.stride)


def _pad(x: Array, axis: int, before: int, after: int, value: float = 0) -> Array:
    """Numbers added at both ends of an axis; taken away where less than 0."""
    if before == after == 0:
        return x
    edges = [(0, 0, 0)] * x.ndim
    edges[axis] = (before, after, 0)
    return lax.pad(x, jnp.asarray(value, x.dtype), edges)


# ---- what a user says of windows over images


class WindowSpec(NamedTuple):
    """A window over images as a layer was asked for it: two numbers each, for rows and columns; checked."""

    window: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding
    dilation: tuple[int, int] = (1, 1)

    def over(self, name: str, in_shape: Shape) -> tuple[Windows, Windows]:
        """The windows over the rows and over the columns of an image; a ShapeError if there is none."""
        check_images(name, in_shape)
        rows, columns = (axis_windows(*axis) for axis in self._axes(in_shape))
        if rows.outputs < 1 or columns.outputs < 1:
            least = " × ".join(str(w.span - w.low - w.high) for w in (rows, columns))
            raise ShapeError(
                f"{name}: expected images of at least {least}, got {in_shape[0]} × {in_shape[1]} from {in_shape}. "
                "Use a smaller window or padding='SAME', or pool less before it."
            )
        return rows, columns

    def reaching(self, name: str, in_shape: Shape) -> tuple[Windows, Windows]:
        """The windows of which there are as many as rows and columns, over the larger image that they reach."""
        check_images(name, in_shape)
        rows, columns = (_windows_reaching(*axis) for axis in self._axes(in_shape))
        if rows.numbers < 1 or columns.numbers < 1:
            raise ShapeError(
                f"{name}: expected padding that leaves an image, got {self.padding} for images of {in_shape[0]} × "
                f"{in_shape[1]}. Pad less: padding is cut off here."
            )
        return rows, columns

    def _axes(self, in_shape: Shape) -> Any:
        """For rows and columns: how many numbers, window, stride, dilation, padding."""
        padding: tuple[Any, Any] = self.padding if isinstance(self.padding, tuple) else (self.padding, self.padding)
        return zip(in_shape[:2], self.window, self.stride, self.dilation, padding, strict=True)


def check_images(name: str, in_shape: Shape) -> None:
    """A ShapeError unless examples are images."""
    if len(in_shape) != 3 or min(in_shape) < 1:
        raise ShapeError(
            f"{name}: expected images of shape (height, width, channels), got {in_shape}. {_to_images(in_shape)}"
        )


def _to_images(in_shape: Shape) -> str:
    if len(in_shape) == 2:
        return "Add an axis of one channel: x[..., None]."
    return "Put it before what makes vectors of images, or reshape x to (rows, height, width, channels)."


def axis_windows(numbers: int, size: int, stride: int, dilation: int, padding: str | tuple[int, int]) -> Windows:
    """The windows over one axis, with padding "SAME", "VALID" or (before, after).

    >>> from fnn.kernels.windows import axis_windows
    >>> axis_windows(28, 5, 2, 1, "SAME").outputs
    14
    """
    low, high = (0, 0) if isinstance(padding, str) else padding
    if padding == "SAME":
        missing = max(0, (-(-numbers // stride) - 1) * stride + dilation * (size - 1) + 1 - numbers)
        low, high = missing // 2, missing - missing // 2
    return Windows(numbers, size, stride, dilation, low, high)


def _windows_reaching(outputs: int, size: int, stride: int, dilation: int, padding: str | tuple[int, int]) -> Windows:
    """So many windows: over `stride` numbers each for "SAME", else over all that they reach, less the padding."""
    if padding == "SAME":
        return axis_windows(outputs * stride, size, stride, dilation, padding)
    low, high = (0, 0) if isinstance(padding, str) else padding
    whole = (outputs - 1) * stride + dilation * (size - 1) + 1
    return Windows(whole - low - high, size, stride, dilation, low, high)


def window_spec(
    name: str,
    window: int | tuple[int, int],
    stride: int | tuple[int, int],
    padding: Padding,
    dilation: int | tuple[int, int] = 1,
) -> WindowSpec:
    """A window as it was asked for, checked: one whole number stands for two equal ones."""
    return WindowSpec(
        pair(name, "window", window),
        pair(name, "stride", stride),
        _padding(name, padding),
        pair(name, "dilation", dilation),
    )


def describe_window(window: object) -> str:
    """A window in the name of a layer, whatever it is."""
    return str(window) if _whole(window, 1) or isinstance(window, int) else arguments.describe_value(window)


def pair(name: str, what: str, value: object) -> tuple[int, int]:
    """Two whole numbers of at least 1; one stands for both."""
    both = (value, value) if isinstance(value, (int, np.integer)) and not isinstance(value, bool) else value
    if not _whole(both, 1):
        got = arguments.describe_value(value)
        raise ValueError(
            f"{name}: expected {what} to be two whole numbers, at least 1, got {got}. Write {what}=(2, 2)."
        )
    return int(both[0]), int(both[1])


def _whole(both: object, at_least: int) -> TypeGuard[tuple[int, int]]:
    return (
        isinstance(both, tuple)
        and len(both) == 2
        and all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and at_least <= n < 2**31 for n in both)
    )


def _padding(name: str, padding: object) -> Padding:
    if isinstance(padding, str) and padding in ("SAME", "VALID"):
        return padding
    if not (isinstance(padding, tuple) and len(padding) == 2 and all(_whole(side, 0) for side in padding)):
        raise ValueError(
            f"{name}: expected padding 'SAME', 'VALID' or ((top, bottom), (left, right)) in whole numbers of at "
            f"least 0, got {arguments.describe_value(padding)}. Write padding='SAME'."
        )
    return padding
