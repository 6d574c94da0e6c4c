"""What is exported, checked: a network, its parameters, the shape of an example, a standardiser."""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import arguments
from fnn.arguments import trees
from fnn.arguments.leaves import is_shape, shape_leaves
from fnn.data import checks
from fnn.data.scaling import Standardiser
from fnn.inference.prediction import Trained, checked_run
from fnn.runs import Run
from fnn.types import Layer, PathLike, Shape, ShapeError


class Program(NamedTuple):
    """What an exported file computes: `net` on `(x - mean)/deviation`, or on `x`."""

    path: str
    net: Layer
    run: Run
    in_shape: Shape
    standardiser: Standardiser | None

    def state_interface(self, out_shape: Shape, batch: str = "batch") -> str:
        """Inputs, outputs and standardiser in one line, for a person who reads the file."""
        inputs, outputs = (_with_batch(batch, shape) for shape in (self.in_shape, out_shape))
        scaled = ""
        if self.standardiser is not None:
            scaled = " as measured, which the program standardises itself by (x - mean)/deviation"
        return f"{self.net}; input x: float32 {inputs}{scaled}; output y: float32 {outputs}"


def _with_batch(batch: str, shape: Shape) -> str:
    return f"({', '.join([*([batch] if batch else []), *map(str, shape)])})"


def check_program(
    path: PathLike, net: Layer, run: Trained, in_shape: Shape | None, standardiser: Standardiser | None
) -> Program:
    """The arguments of an export, or an error that names the one that is wrong.

    Raises:
        TypeError: `net`, `run` or `standardiser` is something else.
        ShapeError: the parameters are not those of the network for such examples, or the standardiser is for others.
        ValueError: the shape of an example is not known, or a parameter is not finite.
    """
    path, run = os.path.expanduser(checks.path("path", path)), checked_run(net, run)
    shape = run.in_shape if in_shape is None else in_shape
    if shape is None:
        raise ValueError("in_shape: expected the shape of one example, got None. Pass in_shape=(4,), say.")
    if isinstance(shape, dict) or (isinstance(shape, tuple) and not is_shape(shape) and shape_leaves(shape)):
        hint = "Use fnn.predictor to serve it, or export the layers of one branch."
        raise ValueError(f"in_shape: expected a network of one input, got examples of shape {shape}. {hint}")
    if not isinstance(shape, (tuple, list)) or not all(isinstance(n, (int, np.integer)) and n >= 1 for n in shape):
        got = arguments.describe_value(shape)
        raise ValueError(f"in_shape: expected whole numbers of at least 1, got {got}. Pass in_shape=(4,), say.")
    shape = tuple(map(int, shape))
    trees.check_fits_network(net, run.params, run.state, shape, "run")
    for name, leaf in trees.flatten_named(trees.without_keys({"params": run.params, "state": run.state})).items():
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(as_float64(leaf)).all():
            raise ValueError(f"run.{name}: expected finite numbers, got nan or inf. Export a finite run.")
    if standardiser is not None:
        arguments.instance("standardiser", standardiser, Standardiser, "Pass what fnn.standardiser(x) returned.")
        if np.shape(standardiser.mean) != shape:
            raise ShapeError(
                f"standardiser: expected one for examples of shape {shape}, got one for {np.shape(standardiser.mean)}. "
                "Pass the one that the training rows were standardised by."
            )
    return Program(path, net, run, shape, standardiser)


def standardising_numbers(standardiser: Standardiser) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, what float32 leaves of it, and deviation, all float32: `((x - mean) - rest)/deviation` is then as good as
    in float64, however far the mean is from 0.

    >>> import fnn
    >>> from fnn.storage.export.programs import standardising_numbers
    >>> mean, rest, deviation = standardising_numbers(fnn.standardiser([[1e6 + 0.01], [1e6 + 0.03]]))
    >>> print(mean, rest.round(3), deviation)
    [1.e+06] [0.02] [0.01]
    """
    mean = standardiser.mean.astype(np.float32)
    rest = (standardiser.mean - mean).astype(np.float32)
    return mean, rest, standardiser.deviation.astype(np.float32)


def as_float64(value: Any) -> np.ndarray:
    """Numbers of any floating dtype of JAX as NumPy's float64."""
    return np.asarray(jax.device_get(value)).astype(np.float64)
