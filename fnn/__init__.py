"""Neural networks as pure functions: parameters are pytrees, losses are pure functions, a whole training run is one
compiled JAX program, and every derivative is derived by hand beside its formula and checked against autodiff."""

from importlib.metadata import version as _version

from fnn import activations as activations
from fnn import losses as losses
from fnn import penalties as penalties
from fnn.activations import (
    Activation as Activation,
)
from fnn.activations import (
    elementwise as elementwise,
)
from fnn.activations import (
    elu as elu,
)
from fnn.activations import (
    gelu as gelu,
)
from fnn.activations import (
    leaky_relu as leaky_relu,
)
from fnn.activations import (
    prelu as prelu,
)
from fnn.activations import (
    relu as relu,
)
from fnn.activations import (
    rrelu as rrelu,
)
from fnn.activations import (
    selu as selu,
)
from fnn.activations import (
    sigmoid as sigmoid,
)
from fnn.activations import (
    silu as silu,
)
from fnn.activations import (
    softmax as softmax,
)
from fnn.activations import (
    softplus as softplus,
)
from fnn.activations import (
    softsign as softsign,
)
from fnn.activations import (
    tanh as tanh,
)
from fnn.combine import (
    as_layer as as_layer,
)
from fnn.combine import (
    from_function as from_function,
)
from fnn.combine import (
    repeat as repeat,
)
from fnn.combine import (
    residual as residual,
)
from fnn.combine import (
    serial as serial,
)
from fnn.complexity import complexity as complexity
from fnn.complexity import summary as summary
from fnn.data import hold_out as hold_out
from fnn.data import standardise as standardise
from fnn.data import standardiser as standardiser
from fnn.evaluation import (
    accuracy as accuracy,
)
from fnn.evaluation import (
    binary_accuracy as binary_accuracy,
)
from fnn.evaluation import (
    evaluate as evaluate,
)
from fnn.evaluation import (
    predict as predict,
)
from fnn.factory import factory as factory
from fnn.fitting import fit as fit
from fnn.gradient_check import check_gradients as check_gradients
from fnn.gradient_check import numerical_gradient as numerical_gradient
from fnn.gradients import autodiff as autodiff
from fnn.gradients import backprop as backprop
from fnn.linear import dense as dense
from fnn.train import trainer as trainer
from fnn.types import (
    Data as Data,
)
from fnn.types import (
    History as History,
)
from fnn.types import (
    Layer as Layer,
)
from fnn.types import (
    Loss as Loss,
)
from fnn.types import (
    Part as Part,
)
from fnn.types import (
    Penalty as Penalty,
)
from fnn.types import (
    Rows as Rows,
)
from fnn.types import (
    Run as Run,
)
from fnn.types import (
    ShapeError as ShapeError,
)
from fnn.types import (
    Trainer as Trainer,
)
from fnn.types import (
    TrainingDiverged as TrainingDiverged,
)
from fnn.types import (
    TrainState as TrainState,
)

__version__ = _version("fnn")
