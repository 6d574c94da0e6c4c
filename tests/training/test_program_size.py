"""How large the program of a run is: what compiling takes goes by it, and it does not depend on the machine."""

import jax
import jax.numpy as jnp
import optax

import fnn
from fnn.kernels.compiler_options import FUSION_EMITTERS_STAY
from fnn.kernels.effort import count_work, effort_options
from tests.helpers.traced import functions_in

ROWS = fnn.Part(jnp.zeros((300, 64)), jnp.zeros(300, jnp.int32))


def test_a_classifier_with_validation_and_accuracy_has_few_operations_functions_and_fusions():
    net = fnn.serial(fnn.dense(100), fnn.tanh, fnn.dense(10))
    loss, metrics = fnn.losses.sparse_softmax_cross_entropy, {"accuracy": fnn.accuracy}
    training = fnn.trainer(net, loss, optax.adam(1e-3), batch_size=64, metrics=metrics)
    data, number = fnn.Data(ROWS, ROWS), jax.ShapeDtypeStruct((), jnp.int32)
    begin = jax.eval_shape(training.init, jax.random.key(0), data)
    traced = jax.jit(training.run).trace(begin, data, number, number)
    work = count_work(traced.jaxpr.jaxpr)
    assert work.operations <= 548
    assert functions_in(traced.jaxpr.jaxpr) <= 4  # those of optax
    if jax.default_backend() == "cpu" and jax.__version_info__ < FUSION_EMITTERS_STAY:
        program = traced.lower().compile(effort_options("low", work)).as_text()
        assert 0 < program.count(" fusion(") <= 97
