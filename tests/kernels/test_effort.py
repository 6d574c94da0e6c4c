"""How hard a run is compiled: by counts, the more the longer; and what that may change."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import fnn
from fnn.kernels.effort import EFFORTS, Work, choose_effort, count_work, effort_options

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
NET = fnn.serial(fnn.dense(8), fnn.tanh, fnn.dense(1))


def fit(epochs=5, **more):
    return fnn.fit(
        NET,
        fnn.losses.squared_error,
        optax.adam(0.01),
        (X, X[:, :1]),
        epochs=epochs,
        batch_size=8,
        progress=False,
        **more,
    )


def test_work_is_counted_by_the_depth_in_loops():
    def run(x, epochs, steps):
        def epoch(_, x):
            x = lax.fori_loop(0, steps, lambda _, x: jnp.sin(x), x)  # ten numbers per step
            return jnp.cos(jnp.cos(x))  # twenty per epoch

        return jnp.exp(lax.fori_loop(0, epochs, epoch, x))  # ten, once

    x, three = jnp.ones(10), jnp.int32(3)
    bare = count_work(jax.make_jaxpr(run)(x, three, three).jaxpr)
    members = count_work(
        jax.make_jaxpr(lambda *given: lax.map(lambda x: run(x, *given[1:]), given[0]))(
            jnp.ones((256, 10)), three, three
        ).jaxpr
    )
    assert (bare.once // 10, bare.per_epoch // 10, bare.per_step // 10) == (1, 2, 1)
    for one, many in zip(bare[1:], members[1:], strict=True):  # one member after another: each has its own work
        assert 256 * one <= many < 257 * one + 10
    assert members.operations < bare.operations + 10


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_vectors_are_as_long_as_the_processors_but_in_float64_whose_last_bits_they_change(dtype):
    def run(x):
        return lax.fori_loop(0, 3, lambda _, x: jnp.exp(x), x)

    with jax.enable_x64(True):
        work = count_work(jax.make_jaxpr(run)(jnp.ones(3, dtype)).jaxpr)
    found = ["xla_cpu_prefer_vector_width" in effort_options(effort, work) for effort in EFFORTS]
    assert found == [dtype == "float32" and jax.default_backend() == "cpu"] * len(EFFORTS)


def test_more_work_never_means_less_effort_and_both_ends_are_reached(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")  # elsewhere it is always the highest
    for work in (Work(600, 10_000, 50_000, 300_000), Work(500, 100, 100, 3_000), Work(1_000, 0, 0, 20_000_000)):
        epochs = [0, *(4**i for i in range(20))]
        chosen = [EFFORTS.index(choose_effort(work, count, 20 * count)) for count in epochs]
        assert chosen == sorted(chosen) and chosen[0] == 0 and EFFORTS[chosen[-1]] == "high"


def test_of_two_programs_at_once_each_is_compiled_less_hard_and_never_harder(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    work = Work(700, 20_000, 1_500_000, 460_000)
    both = [[EFFORTS.index(choose_effort(work, n, 23 * n, at_once)) for n in range(10, 1_000)] for at_once in (1, 2)]
    assert all(two <= one for one, two in zip(*both, strict=True)) and both[0] != both[1]


def test_a_study_counts_the_steps_of_a_fold_and_not_of_the_table(monkeypatch):
    counted = []

    def choose(work, epochs, steps, at_once):
        counted.append((epochs, steps, at_once))
        return "low"

    monkeypatch.setattr("fnn.studies.jobs.choose_effort", choose)
    fnn.cross_validate(
        NET, fnn.losses.squared_error, optax.adam(0.01), (X, X[:, :1]), over=None, folds=2, epochs=3, batch_size=8,
        devices=jax.devices()[:1], refit=False, progress=False,
    )  # fmt: skip
    epochs, steps, at_once = counted[0]
    assert steps == epochs * 3 and at_once == 1  # 20 of 40 rows: three batches of 8, where the table has five


def test_all_efforts_give_the_same_run_but_for_rounding():
    runs = [fit(compile_effort=effort) for effort in EFFORTS]
    for run in runs[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), run.params, runs[0].params)


def test_a_run_in_a_folder_goes_on_with_the_effort_that_it_has_begun_with(tmp_path):
    kept = fit(3, checkpoint=tmp_path / "high")
    np.testing.assert_array_equal(kept.history.loss, fit(3, compile_effort="high").history.loss)
    fit(3, checkpoint=tmp_path / "low", compile_effort="low")
    with pytest.raises(ValueError, match="compile_effort: expected low, got none"):
        fit(5, checkpoint=tmp_path / "low")
    resumed = fit(5, checkpoint=tmp_path / "low", compile_effort="low")
    np.testing.assert_array_equal(resumed.history.loss, fit(5, compile_effort="low").history.loss)


@pytest.mark.parametrize("study", ["fit", "sweep"])
def test_another_word_is_refused(study):
    calls = {
        "fit": lambda: fit(compile_effort="max"),
        "sweep": lambda: fnn.sweep(
            NET, fnn.losses.squared_error, lambda s: optax.sgd(s["lr"]), (X, X[:, :1]), over={"lr": [0.1]}, epochs=1,
            compile_effort="max", progress=False,
        ),
    }  # fmt: skip
    with pytest.raises(ValueError, match="compile_effort: expected"):
        calls[study]()
