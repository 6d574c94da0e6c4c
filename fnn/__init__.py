"""Neural networks as pure functions: parameters are pytrees, losses are pure functions, a whole training run is one
compiled JAX program, and every derivative is derived by hand beside its formula and checked against autodiff."""

from importlib.metadata import version as _version

from fnn import activations, losses, penalties
from fnn.activations import (
    Activation,
    elementwise,
    elu,
    gelu,
    leaky_relu,
    prelu,
    relu,
    rrelu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softsign,
    tanh,
)
from fnn.combine import as_layer, from_function, repeat, residual, serial
from fnn.complexity import complexity, summary
from fnn.data import hold_out, standardise, standardiser
from fnn.evaluation import accuracy, binary_accuracy, evaluate, predict
from fnn.factory import factory
from fnn.fitting import fit
from fnn.gradient_check import check_gradients, numerical_gradient
from fnn.gradients import autodiff, backprop
from fnn.linear import dense
from fnn.train import trainer
from fnn.types import (
    Data,
    History,
    Layer,
    Loss,
    Part,
    Penalty,
    Rows,
    Run,
    ShapeError,
    Trainer,
    TrainingDiverged,
    TrainState,
)

__version__ = _version("fnn")
