"""L1 with exact zeros: scikit-learn's Lasso and elastic net as oracle, thresholds step by step, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, strategies as st
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ElasticNet, Lasso

import fnn
from fnn.penalties import check_proximal, fista, fista_solution, l2, proximal_l1, soft_threshold

ALPHAS = (0.01, 0.1, 1.0, 10.0, 40.0)


# ---- against scikit-learn, on its diabetes data, standardised


def diabetes():
    x, t = load_diabetes(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    return x, t, 1 / np.linalg.eigvalsh(x.T @ x / len(x))[-1]  # the last: 1/L


def trained(make, alpha, epochs, **more):
    """A run of `fit` on the full batch; alpha is a setting."""
    x, t, rate = diabetes()
    return fnn.fit(
        fnn.dense(1),
        fnn.losses.half_squared_error,
        make(rate),
        (x, t[:, None]),
        epochs=epochs,
        settings={"alpha": alpha},
        reduction="mean",
        **more,
    )


def ista_of(rate):
    return lambda s: optax.chain(optax.sgd(rate), proximal_l1(s["alpha"], learning_rate=rate))


def fista_of(rate):
    return lambda s: fista(s["alpha"], learning_rate=rate)


def plain_fista_of(rate):
    return lambda s: fista(s["alpha"], learning_rate=rate, restart=False)


def assert_is_lasso(params, alpha):
    x, t, _ = diabetes()
    oracle = Lasso(alpha=alpha, tol=1e-14, max_iter=1_000_000).fit(x, t)
    w, b = np.asarray(params["w"])[:, 0], np.asarray(params["b"])[0]

    def objective(w, b):
        return ((x @ w + b - t) ** 2).sum() / (2 * len(x)) + alpha * np.abs(w).sum()

    assert abs(objective(w, b) - objective(oracle.coef_, oracle.intercept_)) < 1e-8
    np.testing.assert_array_equal(w == 0, oracle.coef_ == 0)
    np.testing.assert_allclose(w, oracle.coef_, rtol=1e-6)


@pytest.mark.parametrize("alpha", [ALPHAS[0], *(pytest.param(a, marks=pytest.mark.slow) for a in ALPHAS[1:])])
def test_sgd_with_proximal_l1_is_the_lasso_with_the_same_zeros(alpha, x64):
    assert_is_lasso(trained(ista_of, alpha, 14_000).params, alpha)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_fista_is_the_lasso_with_the_same_zeros(alpha, x64):
    run = trained(fista_of, alpha, 1_000)
    assert_is_lasso(fista_solution(run.train_state.optimizer), alpha)
    assert_is_lasso(run.params, alpha)  # the extrapolated point, once converged


def test_the_values_of_alpha_choose_features():
    """Else the tests above compare no zeros."""
    x, t, _ = diabetes()
    zeros = [(Lasso(alpha=alpha).fit(x, t).coef_ == 0).sum() for alpha in ALPHAS]
    assert zeros == sorted(zeros) and zeros[0] == 0 and zeros[-1] == 8


def test_fista_in_the_papers_form_is_the_lasso_too(x64):
    assert_is_lasso(fista_solution(trained(plain_fista_of, 1.0, 2_000).train_state.optimizer), 1.0)


def test_fista_keeps_the_papers_bound(x64):
    """Beck & Teboulle, theorem 4.4: `F(x_k) - F* <= 2 L ‖x_0 - x*‖² / (k + 1)²`; plain ISTA is far above it."""
    x, t, rate = diabetes()
    t = t - t.mean()
    star = Lasso(alpha=1.0, tol=1e-14, max_iter=1_000_000, fit_intercept=False).fit(x, t).coef_

    def objective(w):
        return jnp.square(x @ w - t).sum() / (2 * len(x)) + jnp.abs(w).sum()

    def excess(optimizer, read):
        def step(carry, _):
            w, state = carry
            updates, state = optimizer.update(x.T @ (x @ w - t) / len(x), state, w)
            w = optax.apply_updates(w, updates)
            return (w, state), objective(read(w, state)) - objective(star)

        w = jnp.zeros(10)
        return np.asarray(jax.lax.scan(step, (w, optimizer.init(w)), length=200)[1])

    bound = 2 / rate * (star**2).sum() / np.arange(2, 202) ** 2
    accelerated = excess(fista(1.0, learning_rate=rate, restart=False), lambda w, state: state.x)
    plain = excess(optax.chain(optax.sgd(rate), proximal_l1(1.0, rate)), lambda w, state: w)
    restarted = excess(fista(1.0, learning_rate=rate), lambda w, state: state.x)
    assert (accelerated <= bound).all() and (accelerated[50:] < plain[50:]).all()
    assert accelerated[20] < 0.8 * plain[20] and restarted[-1] < 0.01 * accelerated[-1]


def test_proximal_l1_with_an_l2_penalty_is_the_elastic_net(x64):
    x, t, _ = diabetes()
    oracle = ElasticNet(alpha=0.5, l1_ratio=0.8, tol=1e-14, max_iter=1_000_000).fit(x, t)
    run = trained(lambda rate: fista_of(rate / 2), 0.5 * 0.8, 600, penalty=l2(0.5 * (1 - 0.8) / 2))
    np.testing.assert_allclose(run.params["w"][:, 0], oracle.coef_, rtol=1e-6)
    np.testing.assert_array_equal(run.params["w"][:, 0] == 0, oracle.coef_ == 0)


def test_after_momentum_another_problem_is_solved(x64):
    """Why it is refused: after momentum 0.9 the zeros are those of a smaller α."""

    def make(rate):
        momentum = optax.sgd(rate / 10, momentum=0.9)
        return lambda s: optax.chain(momentum, proximal_l1(s["alpha"], rate / 10, approximate=True))

    assert_is_lasso(trained(make, 10.0, 10_000).params, 1.0)


def test_a_restart_forgets_the_momentum_at_once():
    """Down `½ w²` in small steps the momentum leads past 0 and uphill; there `t` is 1 again, and `y` is `x`."""
    w, restarts = jnp.array([1.0]), []
    for restart in (True, False):
        optimizer, y = fista(0.0, learning_rate=0.05, restart=restart), w
        state, met = optimizer.init(y), 0
        for step in range(60):
            updates, state = optimizer.update(y, state, y)
            y = optax.apply_updates(y, updates)
            if step > 0 and state.t == 1:
                met += 1
                np.testing.assert_allclose(y, state.x, rtol=1e-5)
        restarts.append(met)
    assert restarts[0] > 0 and restarts[1] == 0


# ---- one step


def test_soft_threshold_is_the_documents_minimiser_of_half_square_and_absolute_value():
    """D0: `½(x-1)² + λ|x|` has its minimum at 0.5 for λ = 0.5 and at 0 for λ = 2."""
    assert soft_threshold(jnp.float32(1), 0.5) == 0.5 and soft_threshold(jnp.float32(1), 2.0) == 0
    v = np.linspace(-3, 3, 61).astype(np.float32)
    expected = np.where(v > 1, v - 1, np.where(v < -1, v + 1, 0))
    np.testing.assert_array_equal(soft_threshold(jnp.asarray(v), 1.0), expected)


numbers = st.floats(-1e4, 1e4, width=32)


@given(st.lists(st.tuples(numbers, numbers), min_size=8, max_size=8), st.floats(0, 100, width=32))
def test_what_is_within_the_threshold_is_exactly_0_afterwards(pairs, threshold):
    w, g = (jnp.asarray(column, jnp.float32) for column in zip(*pairs, strict=True))
    for optimizer in (
        optax.chain(optax.sgd(0.7), proximal_l1(threshold, 1.0)),
        fista(threshold / 0.7, learning_rate=0.7),
    ):
        updates, _ = optimizer.update(g, optimizer.init(w), w)
        after = np.asarray(optax.apply_updates(w, updates), np.float64)
        v = np.asarray(w, np.float64) - 0.7 * np.asarray(g, np.float64)
        slack = 1e-6 * (np.abs(w) + np.abs(g) + threshold)
        assert (after[np.abs(v) < threshold - slack] == 0).all()
        np.testing.assert_array_less(np.abs(after - np.sign(v) * np.maximum(np.abs(v) - threshold, 0)), slack + 1e-30)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "make", [lambda: optax.chain(optax.sgd(0.1), proximal_l1(1e38, 1.0)), lambda: fista(1e38, learning_rate=0.1)]
)
def test_weights_of_any_size_become_exactly_0_and_stay_there(make, compiled):
    sizes = 10.0 ** np.linspace(-30, 30, 1000)
    w, optimizer = jnp.asarray(np.random.default_rng(0).normal(size=1000) * sizes, jnp.float32), make()
    state = optimizer.init(w)
    update = jax.jit(optimizer.update) if compiled else optimizer.update
    for _ in range(3):
        updates, state = update(jnp.ones(1000), state, w)
        w = optax.apply_updates(w, updates)
        assert not w.any()


def parameters():
    return {"w": jnp.array([2.0, -2.0, 0.25]), "b": jnp.array([0.5, -0.5])}


OPTIMIZERS = [
    lambda alpha, rate, **more: optax.chain(optax.sgd(rate), proximal_l1(alpha, rate, **more)),
    lambda alpha, rate, **more: fista(alpha, learning_rate=rate, **more),
]
both = pytest.mark.parametrize("make", OPTIMIZERS, ids=["proximal_l1", "fista"])


def after_one_step(optimizer, params, grads):
    with jax.numpy_dtype_promotion("standard"):  # as in the training loop: optax mixes dtypes
        return optax.apply_updates(params, optimizer.update(grads, optimizer.init(params), params)[0])


@both
def test_biases_are_left_out_and_a_mask_may_say_otherwise(make):
    params, zero = parameters(), jax.tree.map(jnp.zeros_like, parameters())
    after = after_one_step(make(1.0, 0.5), params, zero)
    np.testing.assert_array_equal(after["w"], [1.5, -1.5, 0.0])
    np.testing.assert_array_equal(after["b"], params["b"])
    after = after_one_step(make(1.0, 0.25, mask=lambda p: {"w": False, "b": True}), params, zero)
    np.testing.assert_array_equal(after["w"], params["w"])
    np.testing.assert_array_equal(after["b"], [0.25, -0.25])
    after = after_one_step(make(1.0, 0.5), params, jax.tree.map(jnp.ones_like, params))
    np.testing.assert_array_equal(after["b"], [0.0, -1.0])  # down the gradient as ever


@both
def test_the_threshold_follows_the_schedule(make):
    schedule = fnn.schedules.piecewise_constant([1, 3], [0.5, 0.25, 0.125])
    optimizer, params = make(2.0, schedule), {"w": jnp.array([100.0])}
    state, seen = optimizer.init(params), []
    for _ in range(6):
        before = params["w"]
        updates, state = optimizer.update({"w": jnp.zeros(1)}, state, params)
        params = optax.apply_updates(params, updates)
        seen.append((before - (state.x if hasattr(state, "x") else params)["w"])[0])
    np.testing.assert_allclose(seen, [1.0, 1.0, 0.5, 0.5, 0.25, 0.25], rtol=1e-5)


@both
def test_numbers_may_be_traced_and_vary_under_vmap(make, x64):
    params = parameters()
    grads = jax.tree.map(jnp.ones_like, params)
    params, grads = jax.tree.map(lambda a: a.astype(jnp.float32), (params, grads))  # float64 settings, float32 weights
    alphas, rates = jnp.array([0.5, 3.0]), jnp.array([0.5, 0.1])
    many = jax.jit(jax.vmap(lambda a, r: after_one_step(make(a, r), params, grads)))(alphas, rates)
    for i, (alpha, rate) in enumerate([(0.5, 0.5), (3.0, 0.1)]):
        one = after_one_step(make(alpha, rate), params, grads)
        assert many["w"].dtype == jnp.float32
        np.testing.assert_allclose(many["w"][i], one["w"], rtol=1e-6)


@both
def test_a_gradient_that_is_not_finite_is_not_hidden_by_a_zero(make):
    after = after_one_step(make(1.0, 0.5), {"w": jnp.array([0.1])}, {"w": jnp.array([jnp.nan])})
    assert jnp.isnan(after["w"]).all()


@pytest.mark.slow
@both
def test_members_of_a_vmapped_run_each_have_their_own_zeros(make):
    x, t, rate = diabetes()
    x, t = x.astype(np.float32), (t[:, None] / 100).astype(np.float32)
    training = fnn.trainer(fnn.dense(1), fnn.losses.half_squared_error, lambda s: make(s["alpha"], rate))
    data = fnn.Data(fnn.Part(jnp.asarray(x), jnp.asarray(t)))

    def run(alpha):
        return training.run(training.init(jax.random.key(0), data, {"alpha": alpha}), data, 400)[0].params["w"]

    zeros = (np.asarray(jax.jit(jax.vmap(run))(jnp.array([0.0, 0.01, 0.1, 0.4]))) == 0).sum((1, 2))
    assert zeros.tolist() == [0, 3, 6, 8]


# ---- what is refused


def chained(*before, approximate=False, after=()):
    return optax.chain(*before, proximal_l1(1.0, 0.1, approximate=approximate), *after)


REFUSED = {
    "TraceState": lambda **more: chained(optax.sgd(0.1, momentum=0.9), **more),
    "ScaleByAdamState": lambda **more: chained(optax.adam(0.1), **more),
    "ScaleByRmsState": lambda **more: chained(optax.rmsprop(0.1), **more),
    "FistaState": lambda **more: chained(fista(1.0, learning_rate=0.1), **more),
    "MultiStepsState": lambda **more: chained(optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation(), **more),
    "EmaState": lambda **more: chained(optax.sgd(0.1), after=(optax.ema(0.9),), **more),
    "ScaleByLionState": lambda **more: optax.named_chain(("a", optax.lion(0.1)), ("b", chained(**more))),
    "ScaleByBeliefState": lambda **more: chained(
        optax.multi_transform({"a": optax.adabelief(0.1), "b": optax.sgd(0.1)}, {"w": "b", "b": "a"}), **more
    ),
    "ScaleByRssState": lambda **more: optax.multi_transform(
        {"a": chained(optax.adagrad(0.1), **more), "b": optax.sgd(0.1)}, {"w": "a", "b": "b"}
    ),
    "ScaleByRStdDevState": lambda **more: optax.chain(  # two groupings: "a" of the one may be "b" of the other
        optax.multi_transform({"a": optax.rmsprop(0.1, centered=True), "b": optax.sgd(0.1)}, {"w": "a", "b": "b"}),
        optax.multi_transform({"a": optax.identity(), "b": chained(**more)}, {"w": "b", "b": "a"}),
    ),
    "ScaleByAmsgradState": lambda **more: chained(optax.inject_hyperparams(optax.amsgrad)(learning_rate=0.1), **more),
    "ScaleByAdanState": lambda **more: chained(optax.masked(optax.adan(0.1), {"w": True, "b": False}), **more),
}


@pytest.mark.parametrize("name", REFUSED)
def test_momentum_and_adaptive_optimizers_are_refused(name):
    message = rf"proximal_l1: expected plain SGD before it, got the state {name}\. Use fnn\.penalties\.fista, or "
    with pytest.raises(ValueError, match=message):
        check_proximal(REFUSED[name]().init(parameters()))
    allowed = REFUSED[name](approximate=True).init(parameters())
    assert check_proximal(allowed) is allowed


ALLOWED = {
    "sgd": chained(optax.sgd(0.1)),
    "scheduled": chained(optax.sgd(fnn.schedules.linear_decay(0.1, 0.0, 9))),
    "clipped": chained(optax.clip_by_global_norm(1.0), optax.clip(1.0), optax.sgd(0.1)),
    "decayed": chained(optax.add_decayed_weights(0.1), optax.sgd(0.1)),
    "masked": optax.masked(chained(optax.sgd(0.1)), {"w": True, "b": False}),
    "injected": chained(optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)),
    "if finite": optax.apply_if_finite(chained(optax.sgd(0.1)), 3),
    "other group": optax.multi_transform({"a": optax.adam(0.1), "b": chained(optax.sgd(0.1))}, {"w": "b", "b": "a"}),
    "no proximal_l1": optax.adam(0.1),
    "fista": fista(1.0, learning_rate=0.1),
}


@pytest.mark.parametrize("optimizer", ALLOWED.values(), ids=ALLOWED)
def test_plain_sgd_is_allowed_in_all_its_forms(optimizer):
    state = optimizer.init(parameters())
    assert check_proximal(state) is state


def little_fit(optimizer):
    x, t = np.eye(3, dtype=np.float32), np.ones((3, 1), np.float32)
    return fnn.fit(fnn.dense(1), fnn.losses.squared_error, optimizer, (x, t), epochs=2)


def test_fit_and_trainer_refuse_before_anything_compiles_even_if_the_like_was_allowed_before():
    """`fit` shares programs between optimizers that compute the same; these two must not be taken for one another."""
    for _ in range(2):
        little_fit(REFUSED["ScaleByAdamState"](approximate=True))
        with pytest.raises(ValueError, match="expected plain SGD before it, got the state ScaleByAdamState"):
            little_fit(REFUSED["ScaleByAdamState"]())
    training = fnn.trainer(fnn.dense(1), fnn.losses.squared_error, REFUSED["TraceState"]())
    data = fnn.Data(fnn.Part(jnp.ones((2, 3)), jnp.ones((2, 1))))
    with pytest.raises(ValueError, match="expected plain SGD before it, got the state TraceState"):
        jax.vmap(lambda key: training.init(key, data))(jax.random.split(jax.random.key(0), 2))


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: proximal_l1(-1.0, 0.1), ValueError, "proximal_l1: expected alpha of at least 0, got -1.0. Pass"),
        (lambda: fista(-1.0, learning_rate=0.1), ValueError, "fista: expected alpha of at least 0, got -1.0. Pass 0"),
        (lambda: proximal_l1(1.0, -0.1), ValueError, "proximal_l1: expected a learning rate of at least 0, got -0.1. "),
        (
            lambda: fista(1.0, learning_rate="a"),
            TypeError,
            "fista: expected a learning rate of at least 0, got str 'a'. ",
        ),
        (lambda: fista(1.0, tolerance=-1.0), ValueError, "fista: expected a tolerance of at least 0, got -1.0. Write"),
        (lambda: proximal_l1("1", 0.1), TypeError, "proximal_l1: expected alpha of at least 0, got str '1'. "),
        (lambda: fista_solution(optax.adam(0.1).init(jnp.ones(1))), ValueError, "fista_solution: expected the state"),
    ],
)
def test_wrong_arguments_raise(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()


@both
def test_an_update_without_parameters_raises(make):
    optimizer = make(1.0, 0.1)
    state = optimizer.init(parameters())
    with pytest.raises(ValueError, match=r": expected the parameters, got None\. Call update"):
        optimizer.update(parameters(), state)
