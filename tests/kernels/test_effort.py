"""How hard a run is compiled: by counts, the more the longer; and what that may change."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.kernels.effort import EFFORTS, Work, choose_effort, count_work

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
    def run(x):
        x = jnp.sin(x)

        def epoch(_, x):
            return jax.lax.fori_loop(0, 4, lambda _, x: jnp.cos(x), jnp.tan(jnp.tan(x)))

        return jax.lax.fori_loop(0, 3, epoch, x)

    bare = count_work(jax.make_jaxpr(lambda x: jax.lax.fori_loop(0, 3, lambda _, x: x, x))(jnp.ones(10)).jaxpr)
    work = count_work(jax.make_jaxpr(run)(jnp.ones(10)).jaxpr)
    assert work.once == 10 and work.per_epoch // 10 == 2 and work.per_step // 10 == 1
    assert bare.once == 0 and bare.per_step == 0 and work.operations > bare.operations


def test_more_work_never_means_less_effort_and_both_ends_are_reached():
    for work in (Work(600, 10_000, 50_000, 300_000), Work(500, 100, 100, 3_000), Work(1_000, 0, 0, 20_000_000)):
        chosen = [EFFORTS.index(choose_effort(work, 4**i, 20 * 4**i)) for i in range(20)]
        assert chosen == sorted(chosen) and chosen[0] == 0 and EFFORTS[chosen[-1]] == "high"


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
