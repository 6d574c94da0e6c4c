"""Activations: value and derivative against references, kinks, extremes, published numbers, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import integrate, special

import fnn
from experiments.derivatives.activations import ACTIVATIONS, ELEMENTWISE, POINTS
from tests.helpers.compare import close, has_hint, normwise, printed

every_elementwise = pytest.mark.parametrize("case", ELEMENTWISE, ids=lambda case: str(case.activation))
every_activation = pytest.mark.parametrize("activation", [a for _, a in ACTIVATIONS], ids=str)


# ---- value and derivative


@every_elementwise
def test_value_and_derivative_equal_the_textbook_formulas_from_0_to_1000(case, x64):
    x = jnp.asarray(POINTS)
    close(case.activation(x), [case.value(p) for p in POINTS])
    close(case.activation.derivative(x), [case.derivative(p) for p in POINTS])


@every_elementwise
def test_derivative_equals_autodiff_of_the_value_also_at_0(case, x64):
    x = jnp.asarray(POINTS)
    np.testing.assert_allclose(jax.vmap(jax.grad(case.activation))(x), case.activation.derivative(x), atol=1e-12)


@every_elementwise
def test_backward_multiplies_by_the_derivative(case, x64):
    x, dy = jnp.asarray(POINTS), jnp.linspace(-2.0, 3.0, len(POINTS))
    close(case.activation.backward(x, dy), dy * case.activation.derivative(x))


@every_elementwise
def test_infinities_give_the_limits(case):
    if case.at_infinity is None:
        pytest.skip("the formula has no value there")
    for dtype in (jnp.float32, jnp.bfloat16):
        y = case.activation(jnp.array([-jnp.inf, jnp.inf], dtype)).astype(jnp.float32)
        np.testing.assert_allclose(y, case.at_infinity, rtol=0 if dtype == jnp.float32 else 1e-2, atol=1e-7)
    assert np.isfinite(case.activation.derivative(jnp.array([-jnp.inf, jnp.inf]))).all()


@every_elementwise
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_smaller_dtypes_are_kept_and_finite_at_the_extremes(case, dtype):
    x = jnp.asarray(POINTS, dtype)
    exact = [case.value(float(p)) for p in x]
    y, derivative = case.activation(x), case.activation.derivative(x)
    assert y.dtype == derivative.dtype == x.dtype
    assert np.isfinite(np.asarray(derivative, np.float32)).all()
    precision = 8 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(y, np.float64), exact, rtol=precision, atol=precision)


AT_0 = {fnn.relu: 0.0, fnn.leaky_relu(0.2): 0.2, fnn.elu(0.7): 0.7, fnn.sigmoid: 0.25, fnn.tanh: 1.0}
AT_0 |= {fnn.softsign: 1.0, fnn.softplus: 0.5, fnn.silu: 0.5, fnn.gelu: 0.5}


@pytest.mark.parametrize("activation, slope", AT_0.items(), ids=str)
def test_derivative_at_0_by_hand_and_by_autodiff(activation, slope):
    for zero in (0.0, -0.0):
        assert float(activation.derivative(jnp.asarray(zero))) == pytest.approx(slope, rel=1e-6)
        assert float(jax.grad(activation)(zero)) == pytest.approx(slope, rel=1e-6)


def test_selu_keeps_mean_0_and_variance_1_of_a_normal_distribution(x64):
    def moment(power):
        return sum(
            integrate.quad(lambda x: float(fnn.selu(x)) ** power * np.exp(-x * x / 2) / np.sqrt(2 * np.pi), *ends)[0]
            for ends in ((-9, 0), (0, 9))
        )

    np.testing.assert_allclose([moment(1), moment(2)], [0, 1], atol=1e-9)


@given(st.floats(-700, 700))
def test_sigmoid_and_its_mirror_image_sum_to_1(x):
    with jax.enable_x64(True):
        np.testing.assert_allclose(fnn.sigmoid(x) + fnn.sigmoid(-x), 1, rtol=1e-15)


# ---- published numbers


@pytest.mark.parametrize(
    "activation, x, published",
    [
        (fnn.sigmoid, [1, 2, 3], "0.7310586 0.8807971 0.95257413"),
        (
            fnn.tanh,
            [-np.inf, -5, -0.5, 1, 1.2, 2, 3, np.inf],
            "-1 -0.99990916 -0.46211717 0.7615942 0.8336547 0.9640276 0.9950547 1",
        ),
        (fnn.relu, [-2, 0, -0.0, 3], "0 0 0 3"),
        (fnn.leaky_relu(0.2), [-2, 0, -0.0, 3], "-0.4 0 0 3"),
        (fnn.softmax, [4, 5, 1], "0.26538792 0.7213992 0.01321289"),
    ],
    ids=str,
)
def test_published_numbers_in_float32(activation, x, published):
    printed(activation(jnp.array(x, jnp.float32)), published)


# ---- softmax


def test_softmax_equals_scipy_for_any_number_of_axes(x64):
    x = np.random.default_rng(0).normal(0, 5, (2, 4, 3))
    close(fnn.softmax(x), special.softmax(x, axis=-1))


def test_softmax_jacobian_for_equal_and_unequal_indices(x64):
    x = np.random.default_rng(1).normal(0, 2, (4, 3))
    y = special.softmax(x, axis=-1)
    expected = np.array([[[y[n, j] * ((i == j) - y[n, i]) for i in range(3)] for j in range(3)] for n in range(4)])
    jacobian = fnn.softmax.derivative(jnp.asarray(x))
    close(jacobian, expected, rtol=1e-12, atol=1e-15)
    assert normwise(jacobian, jax.vmap(jax.jacobian(fnn.softmax.value))(jnp.asarray(x))) < 1e-12
    dy = np.random.default_rng(2).normal(size=(4, 3))
    close(fnn.softmax.backward(jnp.asarray(x), jnp.asarray(dy)), np.einsum("nji,nj->ni", expected, dy), atol=1e-15)


rows = st.lists(st.floats(-1000, 1000), min_size=4, max_size=4)


@given(rows, st.floats(-1000, 1000))
def test_softmax_rows_sum_to_1_and_a_shift_changes_nothing(row, shift):
    with jax.enable_x64(True):
        y = fnn.softmax(row)
        np.testing.assert_allclose(y.sum(), 1, rtol=1e-14)
        np.testing.assert_allclose(fnn.softmax(np.array(row) + shift), y, rtol=1e-9, atol=1e-300)
        np.testing.assert_allclose(fnn.softmax.derivative(jnp.asarray(row)).sum(-1), 0, atol=1e-15)


def test_softmax_gives_exactly_0_to_a_masked_class():
    x = jnp.array([[1.0, -jnp.inf, 3.0], [-1000.0, 1000.0, -jnp.inf]])
    y = np.asarray(fnn.softmax(x))
    assert y[0, 1] == 0 and y[1, 2] == 0
    np.testing.assert_allclose(y[0, [0, 2]], special.softmax([1.0, 3.0]), rtol=1e-6)
    assert np.isfinite(fnn.softmax.derivative(x)).all()
    assert np.isfinite(fnn.softmax.backward(x, jnp.ones_like(x))).all()


# ---- what comes in


@every_activation
def test_integers_lists_and_booleans_become_floats(activation):
    expected = activation(jnp.array([-2.0, 0.0, 3.0]))
    for x in ([-2, 0, 3], np.array([-2, 0, 3]), jnp.array([-2, 0, 3], jnp.int8)):
        np.testing.assert_array_equal(activation(x), expected)
    np.testing.assert_array_equal(activation(jnp.array([0, 3], jnp.uint8)), activation(jnp.array([0.0, 3.0])))
    np.testing.assert_array_equal(activation(np.array([True, False])), activation(jnp.array([1.0, 0.0])))


@pytest.mark.parametrize("activation", [fnn.sigmoid, fnn.relu, fnn.elu(), fnn.leaky_relu(), fnn.softmax], ids=str)
def test_derivative_takes_what_the_function_takes(activation):
    for x in ([-2.0, 0.0, 3.0], [-2, 0, 3], np.array([-2, 0, 3])):
        expected = activation.derivative(jnp.array([-2.0, 0.0, 3.0]))
        np.testing.assert_array_equal(activation.derivative(x), expected)


@every_activation
@pytest.mark.parametrize("x", [1j, np.array([1.0 + 2.0j]), "one", ["one", "two"], np.array(["one"])], ids=repr)
def test_what_is_not_a_real_number_raises_with_the_mend(activation, x):
    with pytest.raises(TypeError) as caught:
        activation(x)
    message = str(caught.value)
    assert message.startswith(f"{activation}: expected real numbers, got ")
    assert has_hint(message)


def test_an_activation_of_ones_own_is_made_from_value_and_derivative(x64):
    cube = fnn.elementwise("cube", lambda x: x**3, lambda x: 3 * x**2)
    x = jnp.array([[-1.0, 2.0]])
    np.testing.assert_array_equal(cube(x), [[-1, 8]])
    np.testing.assert_array_equal(cube.backward(x, jnp.array([[1.0, 0.5]])), [[3, 6]])
    assert str(cube) == "cube" and str(fnn.serial(cube)) == "serial(cube)"


# ---- rectifiers that are layers


def run(layer, x, key=None, train=False, params=None):
    made, state, _ = layer.init(jax.random.key(0), x.shape[1:])
    return layer.forward(made if params is None else params, state, x, key, train)


def test_prelu_learns_one_slope_a_channel(x64):
    x = jnp.array([[[-1.0, -2.0, 3.0], [4.0, -5.0, -6.0]]])
    slopes = {"a": jnp.array([0.1, 0.2, 0.3])}
    y, _, cache = run(fnn.prelu(), x, params=slopes)
    close(y, [[[-0.1, -0.4, 3.0], [4.0, -1.0, -1.8]]])
    dy = jnp.array([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])
    dparams, dx = fnn.prelu().backward(slopes, cache, dy)
    close(dparams["a"], [-1.0, -2 * 2 - 5 * 5, -6 * 6])
    close(dx, [[[0.1, 0.4, 3.0], [4.0, 1.0, 1.8]]])


def test_prelu_at_0_has_the_slope_of_the_left_side():
    slopes, zero = {"a": jnp.array([0.25])}, jnp.zeros((1, 1))
    _, dx = fnn.prelu().backward(slopes, zero, jnp.ones((1, 1)))
    assert dx[0, 0] == 0.25
    assert jax.grad(lambda x: fnn.prelu().forward(slopes, (), x, None, True)[0].sum())(zero)[0, 0] == 0.25


def test_prelu_starts_with_the_initial_slope():
    np.testing.assert_array_equal(fnn.prelu(0.1).init(jax.random.key(0), (2, 3))[0]["a"], np.float32([0.1] * 3))


def test_rrelu_draws_every_slope_from_its_range_when_it_trains():
    x = -jnp.ones((200, 50))
    slopes = -np.asarray(run(fnn.rrelu(0.1, 0.3), x, jax.random.key(1), True)[0])
    assert slopes.min() >= np.float32(0.1) and slopes.max() < 0.3
    assert len(np.unique(slopes)) > 9000
    np.testing.assert_allclose(slopes.mean(), 0.2, atol=0.002)
    np.testing.assert_allclose(slopes.std(), 0.2 / np.sqrt(12), rtol=0.02)
    np.testing.assert_array_equal(run(fnn.rrelu(0.1, 0.3), -x, jax.random.key(1), True)[0], -x)


def test_rrelu_uses_the_mean_slope_in_prediction(x64):
    for key in (None, jax.random.key(0)):
        y = run(fnn.rrelu(0.1, 0.5), jnp.array([[-2.0, 0.0, 3.0]]), key, False)[0]
        close(y, [[-0.6, 0, 3]])


def test_rrelu_goes_back_with_the_slopes_of_the_forward_pass(x64):
    x = jnp.array([[-1.0, -2.0, 3.0]])
    y, _, cache = run(fnn.rrelu(), x, jax.random.key(5), True)
    close(fnn.rrelu().backward((), cache, jnp.array([[1.0, 2.0, 3.0]]))[1], (y / x) * jnp.array([[1.0, 2.0, 3.0]]))


def test_rrelu_without_a_key_raises_when_it_trains():
    for train in (True, fnn.Rows(jnp.array([True]))):
        with pytest.raises(ValueError, match=r"rrelu: expected a key when it trains, got None\. Pass key="):
            run(fnn.rrelu(), jnp.ones((1, 2)), None, train)


@pytest.mark.parametrize("lower, upper", [(0.5, 0.1), (-0.1, 0.1), (float("nan"), 1.0)])
def test_rrelu_refuses_a_range_that_is_none(lower, upper):
    with pytest.raises(ValueError, match="rrelu: expected 0 <= lower <= upper"):
        fnn.rrelu(lower, upper)


# ---- slopes: numbers of any kind, in the dtype of x

SLOPES = [0.25, 1, np.float32(0.25), np.float64(0.25), np.int64(1), jnp.float32(0.25), np.array(0.25)]


@pytest.mark.parametrize("slope", SLOPES, ids=lambda slope: f"{type(slope).__name__} {slope}")
def test_a_slope_of_any_kind_keeps_the_dtype_of_x(slope):
    x = jnp.asarray([[-1.0, 2.0]], jnp.bfloat16)
    for activation in (fnn.leaky_relu(slope), fnn.elu(slope)):
        assert activation(x).dtype == activation.derivative(x).dtype == jnp.bfloat16
    np.testing.assert_array_equal(fnn.leaky_relu(slope)(x), jnp.asarray([[-float(slope), 2.0]], jnp.bfloat16))
    layer = fnn.rrelu(slope, slope)
    for train in (False, True):
        y, _, cache = run(layer, x, jax.random.key(0), train)
        assert y.dtype == layer.backward((), cache, x)[1].dtype == jnp.bfloat16
        np.testing.assert_array_equal(y, jnp.asarray([[-float(slope), 2.0]], jnp.bfloat16))
    assert float(fnn.prelu(slope).init(jax.random.key(0), (1,))[0]["a"][0]) == float(slope)


def test_a_traced_slope_keeps_the_dtype_of_x():
    x = jnp.asarray([[-1.0, 2.0]], jnp.bfloat16)

    @jax.jit
    def traced(slope):
        rrelu = run(fnn.rrelu(slope, 0.5), x, jax.random.key(0), True)[0]
        return fnn.leaky_relu(slope)(x), fnn.elu(slope).derivative(x), rrelu

    assert {y.dtype for y in traced(0.5)} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_array_equal(traced(0.5)[0], fnn.leaky_relu(0.5)(x))


@pytest.mark.parametrize("make", [fnn.leaky_relu, fnn.elu, fnn.prelu], ids=lambda make: make.__name__)
@pytest.mark.parametrize(
    "slope, error",
    [(np.nan, ValueError), (np.inf, ValueError), ("0.2", TypeError), (True, TypeError), ([0.2], TypeError)],
    ids=str,
)
def test_a_slope_that_is_no_finite_number_raises(make, slope, error):
    with pytest.raises(error, match=rf"{make.__name__}: expected a finite slope, got .*\. Pass a number"):
        make(slope)


def test_rrelu_refuses_what_are_no_numbers():
    for lower, upper in (("0", 1.0), (0.0, None), (np.ones(2), 1.0)):
        with pytest.raises(TypeError, match=r"rrelu: expected a slope, got .*\. Pass a number"):
            fnn.rrelu(lower, upper)
    for lower, upper in ((0.1, np.inf), (np.float32(0.5), np.float32(0.1))):
        with pytest.raises(ValueError, match="rrelu: expected 0 <= lower <= upper"):
            fnn.rrelu(lower, upper)


def test_an_array_of_slopes_is_one_per_channel():
    x = jnp.asarray([[-1.0, -1.0, 2.0]], jnp.bfloat16)
    for activation in (fnn.leaky_relu(np.array([0.5, 0.0, 0.25])), fnn.leaky_relu(jnp.array([0.5, 0.0, 0.25]))):
        assert activation(x).tolist() == [[-0.5, 0.0, 2.0]] and activation(x).dtype == x.dtype
        assert activation.derivative(x).tolist() == [[0.5, 0.0, 1.0]]
