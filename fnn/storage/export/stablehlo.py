"""`export_stablehlo`: a trained network as a portable program of JAX."""

import importlib.util
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import export

from fnn import arguments
from fnn.data.scaling import Standardiser
from fnn.devices.atomic import write_whole
from fnn.inference.prediction import Trained
from fnn.layers.passes import forward_layer
from fnn.storage.export.programs import Program, check_program, standardising_numbers
from fnn.types import Array, Layer, PathLike, Shape

PLATFORMS = ("cpu", "cuda")


@arguments.explain_call
def export_stablehlo(
    path: PathLike,
    net: Layer,
    run: Trained,
    in_shape: Shape | None = None,
    *,
    standardiser: Standardiser | None = None,
) -> str:
    """Write a trained network as a StableHLO program, which JAX runs without fnn, on a CPU or an NVIDIA GPU.

    Any network can be written, layers and functions of your own included. The program takes float32
    `(batch, *in_shape)`, any number of rows, and has the parameters in it. It is read by
    `jax.export.deserialize(bytearray(open(path, "rb").read())).call(x)`; JAX reads programs for six months at least.
    All of the file is written, or nothing.

    Args:
        path, net, run, in_shape, standardiser: as for `export_onnx`.

    Returns:
        The network, its inputs, its outputs and its standardiser in a line.

    Raises:
        ValueError, ShapeError: `in_shape` or `standardiser` does not fit; a parameter is not finite.
        OSError: the disk is full, the folder is missing.
        ImportError: flatbuffers is not installed (`pip install "fnn[export]"`).

    >>> import fnn, jax, os, tempfile
    >>> net = fnn.serial(fnn.dense(2), fnn.relu)
    >>> params, state, _ = net.init(jax.random.key(0), (3,))
    >>> path = os.path.join(tempfile.mkdtemp(), "net.stablehlo")
    >>> stated = fnn.export_stablehlo(path, net, fnn.Run(params, state, None, None), in_shape=(3,))
    >>> with open(path, "rb") as file:
    ...     program = jax.export.deserialize(bytearray(file.read()))
    >>> print(program.call(jax.numpy.ones((5, 3))).shape)
    (5, 2)
    """
    program = check_program(path, net, run, in_shape, standardiser)
    if importlib.util.find_spec("flatbuffers") is None:  # JAX writes its programs by it, and does not ask for it
        raise ImportError('export_stablehlo: flatbuffers is not installed. Run: pip install "fnn[export]"')
    batch = export.symbolic_shape("batch")
    x = jax.ShapeDtypeStruct((*batch, *program.in_shape), jnp.float32)
    exported = export.export(jax.jit(_predict(program)), platforms=PLATFORMS)(x)
    write_whole(program.path, [exported.serialize()])
    return program.state_interface(exported.out_avals[0].shape[1:])


def _predict(program: Program) -> Callable[[Array], Array]:
    """Return a function of the inputs alone, which keeps the network's name in the file."""
    net, run = program.net, program.run
    scale = None if program.standardiser is None else standardising_numbers(program.standardiser)

    def predict(x: Array) -> Array:
        if scale is not None:
            mean, rest, deviation = scale
            x = ((x - mean) - rest) / deviation
        return forward_layer(net, run.params, run.state, x, None, False)[0]

    return predict
