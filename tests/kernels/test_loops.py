"""What is compiled into one function computes what it would compute otherwise, wherever it stands."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import fnn
from fnn.kernels import loops
from fnn.kernels.loops import compile_for_size
from tests.fuzz.children import output_of
from tests.helpers import small_loops

HERE = jax.__version_info__ < loops.XLA_FUSES_SINCE and jax.default_backend() == "cpu"
needs_it = pytest.mark.skipif(not HERE, reason="XLA does it by itself")


def doubled(x, times=3):
    return compile_for_size(lambda x: lax.fori_loop(0, times, lambda _, x: 2 * x, x), x)


def told(function, *arguments):
    return "xla_cpu_small_call" in jax.jit(function).lower(*arguments).as_text()


@needs_it
def test_xla_is_told_where_it_can():
    assert told(doubled, jnp.arange(3.0))


@pytest.mark.parametrize(
    "loop",
    [
        lambda x: lax.fori_loop(0, 3, lambda _, x: jnp.sort(x) + 1, x),
        lambda x: lax.fori_loop(0, 3, lambda _, x: x @ jnp.outer(x, x), x),
        lambda x: lax.fori_loop(0, 3, lambda i, x: x.at[jnp.array([i, 0])].add(1.0), x),
        lambda x: lax.fori_loop(0, 3, lambda _, x: jnp.tile(x, 2_000).reshape(-1, len(x)).sum(0), x),
    ],
    ids=["sort", "product", "scatter", "large"],
)
def test_xla_is_not_told_where_it_cannot(loop):
    x = jnp.arange(3.0)
    assert not told(lambda x: compile_for_size(loop, x), x)
    np.testing.assert_array_equal(jax.jit(lambda x: compile_for_size(loop, x))(x), loop(x))


def test_what_once_ended_the_process_comes_out_right():
    code, printed, error = output_of("tests.helpers.small_loops")
    assert printed.split() == [case.__name__ for case in small_loops.CASES], (code, error[-500:])


def test_inside_other_loops_it_is_compiled_as_always():  # else XLA ends the process
    x = jnp.arange(3.0)
    inside = [
        lambda x: lax.map(doubled, x[:, None]).ravel(),
        lambda x: lax.fori_loop(0, 1, lambda _, x: doubled(x), x),
        lambda x: lax.cond(x[0] < 1, doubled, lambda x: x, x),
        lambda x: lax.map(jax.jit(doubled), x[:, None]).ravel(),
    ]
    for function in inside:
        assert not told(function, x)
        np.testing.assert_array_equal(jax.jit(function)(x), 8 * x)


def test_several_in_one_program_and_within_a_function():
    x = jnp.arange(3.0)
    np.testing.assert_array_equal(jax.jit(lambda x: doubled(doubled(x)) + doubled(x))(x), 72 * x)
    np.testing.assert_array_equal(jax.jit(lambda x: jax.jit(doubled)(x) + 1)(x), 8 * x + 1)


def test_it_can_be_mapped_differentiated_and_called_without_jit():
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(jax.vmap(doubled)(x), 8 * x)
    np.testing.assert_array_equal(jax.jit(jax.vmap(doubled, 1, 1))(x), 8 * x)
    np.testing.assert_array_equal(jax.jvp(doubled, (x,), (jnp.ones_like(x),))[1], jnp.full_like(x, 8))
    np.testing.assert_array_equal(jax.grad(lambda x: doubled(x).sum())(x), jnp.full_like(x, 8))
    np.testing.assert_array_equal(doubled(x), 8 * x)


def test_what_the_loop_sees_from_outside_may_be_traced():
    def scaled(x, factor):
        return compile_for_size(lambda x: lax.fori_loop(0, 2, lambda _, x: factor * x, x), x)

    x = jnp.arange(3.0)
    np.testing.assert_array_equal(jax.jit(scaled)(x, 3.0), 9 * x)
    np.testing.assert_array_equal(jax.vmap(scaled, (None, 0))(x, jnp.array([1.0, 3.0])), jnp.stack([x, 9 * x]))


NETS = {  # the dense one is among the short tests
    "dense": lambda: fnn.serial(fnn.dense(3), fnn.sigmoid, fnn.dense(2)),
    "dropout": lambda: fnn.serial(fnn.dense(3), fnn.dropout(0.3), fnn.gelu, fnn.dense(2)),
    "norm": lambda: fnn.serial(fnn.dense(3, bias=False), fnn.batch_norm(), fnn.relu, fnn.layer_norm(), fnn.dense(2)),
    "rrelu": lambda: fnn.serial(fnn.dense(3), fnn.rrelu(), fnn.dense(2), fnn.softmax),
}


LATER = dict.fromkeys(["dropout", "norm", "rrelu"], pytest.mark.slow)


@needs_it
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=LATER.get(kind, ())) for kind in NETS])
def test_a_run_is_the_same_as_without(kind, monkeypatch, x64):
    rng = np.random.default_rng(0)
    x, t = jnp.asarray(rng.normal(size=(23, 2))), jnp.asarray(rng.integers(0, 2, 23), jnp.int32)
    data = fnn.Data(fnn.Part(x, t), fnn.Part(x[:7], t[:7]))
    loss = fnn.losses.sparse_cross_entropy if kind == "rrelu" else fnn.losses.sparse_softmax_cross_entropy
    training = fnn.trainer(
        NETS[kind](), loss, optax.adam(0.01), batch_size=5, metrics={"accuracy": fnn.accuracy},
        penalty=fnn.penalties.l2(0.01),
    )  # fmt: skip
    start = training.init(jax.random.key(0), data)
    assert told(lambda s, d: training.run(s, d, 20), start, data)
    one = jax.jit(lambda s, d: training.run(s, d, 20))(start, data)
    monkeypatch.setattr(loops, "XLA_FUSES_SINCE", (0, 0))
    assert not told(lambda s, d: training.run(s, d, 20), start, data)
    other = jax.jit(lambda s, d: training.run(s, d, 20))(start, data)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="for a CPU")
def test_large_members_run_one_after_another(monkeypatch):
    def scaled(x, factor, offset):
        def twice(x):
            return lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, factor * c[1] + offset), (0, x))[1]

        return compile_for_size(twice, x)

    def one_by_one():
        mapped = jax.vmap(scaled, (1, 0, None), 1)
        loops = [e for e in jax.make_jaxpr(mapped)(x, factor, 0.5).eqns if e.primitive.name == "scan"]
        np.testing.assert_array_equal(jax.jit(mapped)(x, factor, 0.5), factor**2 * x + 0.5 * (factor + 1))
        return len(loops) == 1

    x, factor = jnp.arange(6.0).reshape(2, 3), jnp.array([1.0, 2.0, 3.0])
    monkeypatch.setattr(loops, "ONE_FUNCTION_BELOW", 0)
    assert not one_by_one()
    monkeypatch.setattr(loops, "SEQUENTIAL_FROM", 0)
    assert one_by_one()


@pytest.mark.skipif(
    jax.default_backend() != "cpu" or jax.__version_info__ >= loops.XLA_FUSES_SINCE, reason="for JAX 0.10 on a CPU"
)
def test_the_smallest_members_run_one_after_another_in_one_function():
    def power(x, factor):
        def call(x):
            return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, factor * c[1]), (0, x))[1]

        return compile_for_size(call, x)

    x, factor = jnp.arange(6.0).reshape(3, 2), jnp.array([1.0, 2.0, 3.0])
    whole = jax.make_jaxpr(jax.vmap(power))(x, factor)
    (loop,) = [e for e in whole.eqns if e.primitive.name == "fnn_loop"]
    assert [e.primitive.name for e in loop.params["made"].eqns if e.primitive.name in ("scan", "while")] == ["scan"]
    text = jax.jit(jax.vmap(power)).lower(x, factor).as_text()
    assert "xla_cpu_small_call" in text
    np.testing.assert_array_equal(jax.jit(jax.vmap(power))(x, factor), factor[:, None] ** 3 * x)
