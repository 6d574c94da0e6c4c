"""Neural networks as pure functions: parameters are pytrees, losses are pure functions, a whole training run is one
compiled JAX program, and every derivative is derived by hand beside its formula and checked against autodiff."""

import os as _os
import sys as _sys
from importlib import import_module as _import_module
from importlib.metadata import version as _version
from types import FunctionType as _Function, ModuleType as _Module

from fnn import (
    activations as activations,
    losses as losses,
    optimizers as optimizers,
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
from fnn.arguments.sparse import sparse_rows as sparse_rows
from fnn.compilation.cache import (
    clear_caches as clear_caches,
)
from fnn.compilation.disk_cache import (
    enable_compile_cache as enable_compile_cache,
)
from fnn.data.scaling import Standardiser as Standardiser, standardise as standardise, standardiser as standardiser
from fnn.data.shares import (
    own_rows as own_rows,
)
from fnn.data.splits import (
    folds as folds,
    hold_out as hold_out,
)
from fnn.data.streams import (
    Stream as Stream,
    memory_mapped as memory_mapped,
)
from fnn.data.tables import Table as Table, network_for as network_for
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
from fnn.gradients.interpreters.complex_step import NotAnalytic as NotAnalytic
from fnn.gradients.report import GradientCheck as GradientCheck
from fnn.inference import metrics as metrics
from fnn.inference.evaluation import evaluate as evaluate
from fnn.inference.metrics import accuracy as accuracy, binary_accuracy as binary_accuracy
from fnn.inference.posterior import Laplace as Laplace, laplace as laplace
from fnn.inference.prediction import predict as predict, predictor as predictor
from fnn.layers.adapters.equinox import from_equinox as from_equinox
from fnn.layers.adapters.haiku import from_haiku as from_haiku
from fnn.layers.adapters.linen import from_flax_linen as from_flax_linen
from fnn.layers.adapters.nnx import from_flax_nnx as from_flax_nnx
from fnn.layers.branches.joining import add as add, concatenate as concatenate
from fnn.layers.branches.splitting import parallel as parallel, select as select
from fnn.layers.combinators import (
    as_layer as as_layer,
    from_function as from_function,
    repeat as repeat,
    residual as residual,
    serial as serial,
)
from fnn.layers.complexity import (
    Complexity as Complexity,
    summary as summary,
)
from fnn.layers.embedding import embedding as embedding
from fnn.layers.images.augmentation import (
    random_crop as random_crop,
    random_flip as random_flip,
    random_shift as random_shift,
    rescale as rescale,
)
from fnn.layers.images.convolution import (
    conv2d as conv2d,
    flatten as flatten,
)
from fnn.layers.images.pooling import (
    avg_pool as avg_pool,
    global_avg_pool as global_avg_pool,
    max_pool as max_pool,
)
from fnn.layers.images.sequences import conv1d as conv1d
from fnn.layers.images.transposed import conv_transpose2d as conv_transpose2d
from fnn.layers.images.upsampling import upsample as upsample
from fnn.layers.linear import (
    dense as dense,
)
from fnn.layers.noise import (
    dropout as dropout,
    gaussian_noise as gaussian_noise,
)
from fnn.layers.normalisations.batch import batch_norm as batch_norm
from fnn.layers.normalisations.features import (
    group_norm as group_norm,
    layer_norm as layer_norm,
    rms_norm as rms_norm,
)
from fnn.layers.precision import (
    mixed_precision as mixed_precision,
)
from fnn.layers.sparse import (
    sparse_dense as sparse_dense,
)
from fnn.losses import boxes as boxes
from fnn.losses.aggregation import RowMetric as RowMetric, SumMetric as SumMetric
from fnn.runs import (
    History as History,
    Progress as Progress,
    Run as Run,
    Trainer as Trainer,
    TrainingDiverged as TrainingDiverged,
    TrainingInterrupted as TrainingInterrupted,
    TrainState as TrainState,
)
from fnn.storage.export.c_files import export_c as export_c
from fnn.storage.export.onnx_files import export_onnx as export_onnx
from fnn.storage.export.stablehlo import export_stablehlo as export_stablehlo
from fnn.storage.files import (
    DamagedFile as DamagedFile,
)
from fnn.storage.saving import (
    load as load,
    save as save,
)
from fnn.studies.cross_validation import (
    CrossValidation as CrossValidation,
    cross_validate as cross_validate,
)
from fnn.studies.ensembles import (
    Ensemble as Ensemble,
    ensemble as ensemble,
)
from fnn.studies.search_space import (
    draws as draws,
    grid as grid,
    log_uniform as log_uniform,
    uniform as uniform,
)
from fnn.studies.sweeps import (
    Sweep as Sweep,
    sweep as sweep,
)
from fnn.training.fused_loop import (
    trainer as trainer,
)
from fnn.training.layout import (
    fully_sharded as fully_sharded,
)
from fnn.types import (
    Data as Data,
    Layer as Layer,
    Loss as Loss,
    Part as Part,
    Penalty as Penalty,
    Rows as Rows,
    ShapeError as ShapeError,
)

__version__ = _version("fnn")

# the names in the order of use; `help(fnn)` and `dir(fnn)` show these, not the packages behind them
__all__ = [  # noqa: RUF022
    # train, predict, keep
    "fit",
    "predict",
    "predictor",
    "evaluate",
    "accuracy",
    "binary_accuracy",
    "laplace",
    "save",
    "load",
    "summary",
    # networks
    "serial",
    "residual",
    "repeat",
    "parallel",
    "concatenate",
    "add",
    "select",
    "as_layer",
    "from_function",
    "from_flax_linen",
    "from_flax_nnx",
    "from_equinox",
    "from_haiku",
    "mixed_precision",
    # layers
    "dense",
    "sparse_dense",
    "embedding",
    "conv2d",
    "conv1d",
    "conv_transpose2d",
    "flatten",
    "max_pool",
    "avg_pool",
    "global_avg_pool",
    "upsample",
    "batch_norm",
    "layer_norm",
    "group_norm",
    "rms_norm",
    "dropout",
    "gaussian_noise",
    # images made different as they are trained on
    "rescale",
    "random_flip",
    "random_shift",
    "random_crop",
    # activations
    "relu",
    "leaky_relu",
    "prelu",
    "rrelu",
    "elu",
    "selu",
    "gelu",
    "silu",
    "softplus",
    "softsign",
    "sigmoid",
    "tanh",
    "softmax",
    "elementwise",
    # what has modules of its own
    "losses",
    "metrics",
    "penalties",
    "optimizers",
    "schedules",
    "activations",
    "boxes",
    "plots",
    # data
    "Table",
    "network_for",
    "standardise",
    "standardiser",
    "hold_out",
    "folds",
    "memory_mapped",
    "sparse_rows",
    "own_rows",
    # many runs
    "sweep",
    "cross_validate",
    "ensemble",
    "grid",
    "draws",
    "uniform",
    "log_uniform",
    # derivatives
    "check_gradients",
    "backprop",
    "autodiff",
    "numerical_gradient",
    # files for programs without fnn
    "export_onnx",
    "export_stablehlo",
    "export_c",
    # below fit: a pure run, factories, caches
    "trainer",
    "factory",
    "fully_sharded",
    "enable_compile_cache",
    "clear_caches",
    # what they take and return
    "Layer",
    "Activation",
    "Loss",
    "SumMetric",
    "RowMetric",
    "Penalty",
    "Rows",
    "Part",
    "Data",
    "Stream",
    "Run",
    "History",
    "Progress",
    "TrainState",
    "Trainer",
    "Sweep",
    "CrossValidation",
    "Ensemble",
    "Laplace",
    "Standardiser",
    "Complexity",
    "GradientCheck",
    # what they raise and warn of
    "ShapeError",
    "NotAnalytic",
    "DamagedFile",
    "TrainingDiverged",
    "TrainingInterrupted",
]


def __getattr__(name: str) -> _Module:
    if name == "sklearn":  # needs the extra of this name, so that it is imported on use
        return _import_module("fnn.sklearn")
    raise AttributeError(f"module 'fnn' has no attribute {name!r}", name=name, obj=_sys.modules["fnn"])


def __dir__() -> list[str]:
    return list(__all__)


for _class in [thing for thing in map(globals().get, __all__) if isinstance(thing, type)]:
    # errors, help and pickles name what a user writes, not a file; with their methods, whose doctests go by it
    for _part in [_class, *vars(_class).values()]:
        if str(getattr(_part, "__module__", "")).startswith("fnn.") and isinstance(_part, (type, _Function)):
            _part.__module__ = "fnn"
del _class, _part

if _folder := _os.environ.get("FNN_COMPILE_CACHE"):
    enable_compile_cache(_folder)
