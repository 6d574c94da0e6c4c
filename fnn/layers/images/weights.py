"""What the convolutions share: their arguments, checked, and their parameters at the start."""

from typing import NamedTuple

import jax

from fnn import arguments
from fnn.layers.linear import Initial, initial_deviation, initial_values
from fnn.types import Array, Key, Params, Shape, ShapeError


class KernelSpec(NamedTuple):
    """What a user asks of the weights of a convolution, checked; `name` is that of the layer in errors."""

    name: str
    features: int
    groups: int
    bias: bool
    weight_init: Initial | None
    bias_init: Initial

    def initial(self, key: Key, shape: Shape, fan_in: int) -> Params:
        """Weights of this shape, and a bias per feature; by default of variance `1/fan_in`."""
        deviation = fan_in**-0.5 if self.weight_init is None else self.weight_init
        params = {"w": initial_values(f"{self.name}: weight_init", deviation, jax.random.fold_in(key, 0), shape)}
        if self.bias:
            params["b"] = initial_values(
                f"{self.name}: bias_init", self.bias_init, jax.random.fold_in(key, 1), (self.features,)
            )
        return params

    def check_groups(self, in_shape: Shape) -> None:
        """A ShapeError if the channels of an example cannot be cut into the groups."""
        if in_shape[-1] % self.groups:
            raise ShapeError(
                f"{self.name}: expected channels that can be cut into {self.groups} groups, got {in_shape[-1]} from "
                f"{in_shape}. Use groups that divide the channels."
            )

    def check_inputs(self, x_shape: Shape, axes: str, channels: int) -> None:
        """A ShapeError if inputs have other axes or channels than these parameters were made for."""
        if len(x_shape) != 3 + axes.count(",") or x_shape[-1] != channels:
            raise ShapeError(
                f"{self.name}: expected x of shape (batch, {axes}, {channels}), got {x_shape}. "
                "Use the inputs that these parameters were made for."
            )

    def add_bias(self, params: Params, y: Array) -> Array:
        """`y + b`, or `y` without a bias."""
        return y + arguments.beside(params["b"], y) if self.bias else y


def kernel_spec(
    function: str,
    window: str,
    example: str,
    features: int,
    groups: int,
    bias: bool,
    weight_init: Initial | None,
    bias_init: Initial,
) -> KernelSpec:
    """The arguments, checked.

    Args:
        function: the factory that was called.
        window: how the window reads in the name of the layer.
        example: a call that works, for hints.
        features, groups, bias, weight_init, bias_init: as they were given.
    """
    wanted = "a whole number of"
    features = arguments.whole_number(function, features, 1, f"Write {example}.", what=f"{wanted} features")
    groups = arguments.whole_number(function, groups, 1, "Write groups=1.", what=f"{wanted} groups")
    bias = arguments.flag("bias", bias, function)
    name = f"{function}({features}, {window})"
    if features % groups:
        raise ValueError(
            f"{name}: expected features that can be cut into {groups} groups, got {features}. "
            f"Use {features + groups - features % groups} features, or other groups."
        )
    weight_init = initial_deviation(name, "weight_init", weight_init)
    bias_init = initial_deviation(name, "bias_init", bias_init, False)
    return KernelSpec(name, features, groups, bias, weight_init, bias_init)
