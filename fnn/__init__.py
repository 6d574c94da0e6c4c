"""Neural networks as pure functions: parameters are pytrees, losses are pure functions, a whole training run is one
compiled JAX program, and every derivative is derived by hand beside its formula and checked against autodiff."""

from importlib.metadata import version as _version

from fnn import (
    activations as activations,
    losses as losses,
    penalties as penalties,
    plots as plots,
    schedules as schedules,
)
from fnn.activations import (
    Activation as Activation,
    elementwise as elementwise,
    elu as elu,
    gelu as gelu,
    leaky_relu as leaky_relu,
    prelu as prelu,
    relu as relu,
    rrelu as rrelu,
    selu as selu,
    sigmoid as sigmoid,
    silu as silu,
    softmax as softmax,
    softplus as softplus,
    softsign as softsign,
    tanh as tanh,
)
from fnn.compilation.cache import (
    clear_caches as clear_caches,
)
from fnn.compilation.disk_cache import (
    enable_compile_cache as enable_compile_cache,
)
from fnn.data.scaling import standardise as standardise, standardiser as standardiser
from fnn.data.splits import (
    folds as folds,
    hold_out as hold_out,
)
from fnn.data.streams import (
    Stream as Stream,
    memory_mapped as memory_mapped,
)
from fnn.factories import (
    factory as factory,
)
from fnn.fitting.host_loop import (
    fit as fit,
)
from fnn.gradients.check import (
    check_gradients as check_gradients,
)
from fnn.gradients.cost import (
    autodiff as autodiff,
    backprop as backprop,
)
from fnn.gradients.finite_differences import (
    numerical_gradient as numerical_gradient,
)
from fnn.inference.evaluation import evaluate as evaluate
from fnn.inference.metrics import accuracy as accuracy, binary_accuracy as binary_accuracy
from fnn.inference.prediction import predict as predict
from fnn.layers.augmentation import (
    random_crop as random_crop,
    random_flip as random_flip,
    random_shift as random_shift,
    rescale as rescale,
)
from fnn.layers.combinators import (
    as_layer as as_layer,
    from_function as from_function,
    repeat as repeat,
    residual as residual,
    serial as serial,
)
from fnn.layers.complexity import (
    summary as summary,
)
from fnn.layers.convolution import (
    conv2d as conv2d,
    flatten as flatten,
)
from fnn.layers.linear import (
    dense as dense,
)
from fnn.layers.noise import (
    dropout as dropout,
    gaussian_noise as gaussian_noise,
)
from fnn.layers.normalisation import (
    batch_norm as batch_norm,
    layer_norm as layer_norm,
)
from fnn.layers.pooling import (
    avg_pool as avg_pool,
    global_avg_pool as global_avg_pool,
    max_pool as max_pool,
)
from fnn.layers.precision import (
    mixed_precision as mixed_precision,
)
from fnn.losses import boxes as boxes
from fnn.storage.files import (
    DamagedFile as DamagedFile,
)
from fnn.storage.saving import (
    load as load,
    save as save,
)
from fnn.studies.cross_validation import (
    cross_validate as cross_validate,
)
from fnn.studies.ensembles import (
    ensemble as ensemble,
)
from fnn.studies.search_space import (
    draws as draws,
    grid as grid,
    log_uniform as log_uniform,
    uniform as uniform,
)
from fnn.studies.sweeps import (
    sweep as sweep,
)
from fnn.training.fused_loop import (
    trainer as trainer,
)
from fnn.types import (
    Data as Data,
    History as History,
    Layer as Layer,
    Loss as Loss,
    Part as Part,
    Penalty as Penalty,
    Rows as Rows,
    Run as Run,
    ShapeError as ShapeError,
    Trainer as Trainer,
    TrainingDiverged as TrainingDiverged,
    TrainingInterrupted as TrainingInterrupted,
    TrainState as TrainState,
)

__version__ = _version("fnn")
