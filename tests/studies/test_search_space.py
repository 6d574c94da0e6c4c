"""Which settings a sweep tries: grids, draws, lists of points; what is traced; what raises."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fnn.studies.search_space import Distribution, as_points, draws, grid, log_uniform, split_traced, uniform


def raises(kind, message, function, *args, **more):
    with pytest.raises(kind) as caught:
        function(*args, **more)
    assert type(caught.value) is kind and str(caught.value) == message


# ---- grids


def test_the_last_name_varies_fastest():
    got = grid({"lr": [0.1, 0.2], "width": (8, 16, 32), "l2": [0.0]})
    assert got == [{"lr": lr, "width": width, "l2": 0.0} for lr in (0.1, 0.2) for width in (8, 16, 32)]
    assert all(list(point) == ["lr", "width", "l2"] for point in got)


@pytest.mark.parametrize(
    "values, wanted",
    [
        ([1, 2.0], [1, 2.0]),
        ((np.int8(3), np.float64(0.5), np.array(2)), [3, 0.5, 2]),
        (np.array([1, 2], np.uint16), [1, 2]),
        (np.float32([0.1, 2]), [float(np.float32(0.1)), 2.0]),
        (np.linspace(0, 1, 3), [0.0, 0.5, 1.0]),
        (range(2, 5), [2, 3, 4]),
        ([10**20], [10**20]),
    ],
    ids=str,
)
def test_numbers_become_pythons_own(values, wanted):
    for got in ([point["a"] for point in grid({"a": values})], [p["a"] for p in as_points([{"a": v} for v in values])]):
        assert got == wanted
        assert [type(v) for v in got] == [type(v) for v in wanted]


def test_jax_and_pandas_arrays_are_lists_of_numbers():
    pandas = pytest.importorskip("pandas")
    for values in (jnp.array([1, 2]), pandas.Series([1, 2]), [jnp.int32(1), jnp.int32(2)]):
        got = grid({"a": values})
        assert got == [{"a": 1}, {"a": 2}]
        assert all(type(point["a"]) is int for point in got)
    assert grid({"a": jnp.array([0.5], jnp.bfloat16)}) == [{"a": 0.5}]


# ---- draws


def test_a_point_depends_on_its_key_and_place_alone():
    ranges = {"lr": log_uniform(1e-4, 1), "width": [16, 32, 64], "l2": uniform(0, 1)}
    few, many = draws(3, key=5, **ranges), draws(40, 5, **ranges)
    assert many[:3] == few
    assert len({point["lr"] for point in many}) == 40
    assert draws(3, key=6, **ranges) != few
    assert [point["lr"] for point in draws(40, 5, lr=ranges["lr"])] == [point["lr"] for point in many]
    reversed_names = dict(reversed(ranges.items()))
    assert draws(3, key=5, **reversed_names) == few
    assert list(few[0]) == list(ranges)


def test_draws_stay_what_they_are():
    """From version to version: who asks for more points next year keeps those of this year."""
    wanted = [{"lr": 0.6911559330293754, "width": 16}, {"lr": 0.9072671096263685, "width": 64}]
    assert draws(2, key=7, lr=uniform(0, 1), width=[16, 32, 64]) == wanted


def test_draws_are_distributed_as_they_say():
    points = draws(2000, key=0, a=uniform(-3, 5), b=log_uniform(1e-4, 10), c=[8, 16, 32])
    a, b, c = (np.array([point[name] for point in points]) for name in "abc")
    assert stats.kstest(a, stats.uniform(-3, 8).cdf).pvalue > 0.01
    assert stats.kstest(b, stats.loguniform(1e-4, 10).cdf).pvalue > 0.01
    assert stats.chisquare(np.unique(c, return_counts=True)[1]).pvalue > 0.01
    assert abs(stats.spearmanr(a, b).statistic) < 0.07 and abs(stats.spearmanr(a, c).statistic) < 0.07
    assert abs(stats.spearmanr(a[1:], a[:-1]).statistic) < 0.07


def test_draws_stay_within_their_ranges():
    above = np.nextafter(0.1, 1)
    points = draws(200, a=uniform(0.1, above), b=log_uniform(0.1, above), c=uniform(-1e308, 1e308))
    assert {point["a"] for point in points} | {point["b"] for point in points} <= {0.1, above}
    assert len({point["c"] for point in points if abs(point["c"]) < 1e308}) == 200


def test_choices_keep_their_types_and_ranges_give_floats():
    (point,) = draws(1, width=np.array([8]), lr=[0.5], l2=uniform(1, 2))
    assert (type(point["width"]), type(point["lr"]), type(point["l2"])) == (int, float, float)


def test_ranges_are_plain_tuples_and_print_as_the_call():
    assert uniform(0, np.float32(0.5)) == Distribution(0.0, 0.5, False) and log_uniform(1, 2) == (1.0, 2.0, True)
    assert repr([uniform(0, 1), log_uniform(0.001, 1)]) == "[uniform(0.0, 1.0), log_uniform(0.001, 1.0)]"


# ---- points, and what of them is traced


def test_points_are_taken_as_they_are():
    given = [{"lr": 0.1, "width": 8}, {"width": 16, "lr": 1}]
    assert as_points(given) == given and as_points(tuple(given)) == given
    assert as_points({"lr": [0.1, 1]}) == [{"lr": 0.1}, {"lr": 1}]
    drawn = draws(3, lr=uniform(0, 1))
    assert as_points(drawn) == drawn
    assert as_points(given)[0] is not given[0]


def test_settings_that_are_all_integers_are_static():
    over = {"width": [8], "lr": [1, 0.5], "seed": [0, 1], "patience": [5], "depth": np.array([1, 2]), "l2": [0.0]}
    wanted = ("lr", "seed", "patience", "l2"), ("width", "depth")
    assert split_traced(grid(over)) == wanted
    assert split_traced([{"a": np.int64(1), "b": 2}, {"a": 2, "b": np.float32(1)}]) == (("b",), ("a",))
    assert split_traced([{"seed": 1}]) == (("seed",), ())


# ---- errors


@pytest.mark.parametrize(
    "over, got", [(0.1, "float"), (None, "NoneType"), ("lr", "str"), (uniform(0, 1), "Distribution")]
)
def test_what_are_no_points_raises(over, got):
    hint = "Write {'lr': [0.1, 0.2]}."
    raises(TypeError, f"over: expected a dict of lists or a list of dicts, got {got}. {hint}", as_points, over)


def test_no_points_raise():
    raises(ValueError, "over: expected at least one point, got an empty list. Write [{'lr': 0.1}].", as_points, [])
    message = "over: expected at least one setting, got an empty dict. Write {'lr': …}."
    raises(ValueError, message, as_points, {})
    message = "over[1]: expected at least one setting, got an empty dict. Write {'lr': …}."
    raises(ValueError, message, as_points, [{"lr": 0.1}, {}])
    message = "over[1]: expected a dict of settings, got float. Write {'lr': …}."
    raises(TypeError, message, as_points, [{"lr": 0.1}, 0.2])
    raises(TypeError, "over: expected a dict of settings, got list. Write {'lr': …}.", grid, [{"lr": 0.1}])
    message = "over: expected names of settings, got int 3. Write strings."
    raises(TypeError, message, as_points, {3: [0.1]})


THREE = {"lr": 1, "l2": 0, "l1": 2}


@pytest.mark.parametrize(
    "third, got", [({"lr": 1}, "['lr']"), ({"lr": 1, "l1": 2}, "['lr', 'l1']"), (THREE, str([*THREE]))]
)
def test_points_of_different_names_raise(third, got):
    message = "over[2]: expected the names of the first point, ['lr', 'l2'], got "
    points = [{"lr": 0.1, "l2": 0}, {"l2": 0, "lr": 1}, third]
    raises(ValueError, message + got + ". Give all points the same names.", as_points, points)


NUMBERED = "Number the choices, and look them up: over={…: [0, 1]} and [a, b][s['lr']]."


@pytest.mark.parametrize(
    "value, kind, got",
    [
        (True, TypeError, "a number, got bool True. Pass an int or a float."),
        (np.True_, TypeError, "a number, got bool True. Pass an int or a float."),
        ("0.1", TypeError, "a number, got str '0.1'. Pass an int or a float."),
        (None, TypeError, "a number, got NoneType None. Pass an int or a float."),
        (1j, TypeError, "a number, got complex 1j. Pass an int or a float."),
        ([0.1], TypeError, "a number, got list [0.1]. Pass an int or a float."),
        (np.float32("nan"), ValueError, "a finite number, got nan. Choose another."),
        (-np.inf, ValueError, "a finite number, got -inf. Choose another."),
    ],
)
def test_values_that_are_no_finite_numbers_raise(value, kind, got):
    choice = got.replace("Pass an int or a float.", NUMBERED) if "bool" in got else got
    raises(kind, f"over['lr'][1]: expected {choice}", as_points, {"l2": [0.0], "lr": [0.1, value]})
    raises(kind, f"over[1]['lr']: expected {choice}", as_points, [{"lr": 0.1}, {"lr": value}])
    raises(kind, f"lr[1]: expected {choice}", draws, 3, lr=[0.1, value])
    raises(kind, f"low: expected {got}", uniform, value, 1.0)
    raises(kind, f"high: expected {got}", log_uniform, 1.0, value)


def test_what_is_no_list_of_values_raises():
    message = "over['lr']: expected a list of numbers, got float 0.1. Write [0.1]."
    raises(TypeError, message, grid, {"lr": 0.1})
    message = "over['lr']: expected a list of numbers, got str '0.1'. Write [0.1]."
    raises(TypeError, message, grid, {"lr": "0.1"})
    message = "over['lr']: expected a list of numbers, got uniform(0.0, 1.0). Use it in draws(…)."
    raises(TypeError, message, grid, {"lr": uniform(0, 1)})
    message = "over['lr']: expected at least one value, got an empty list. Leave the setting out."
    raises(ValueError, message, grid, {"lr": []})
    raises(ValueError, message, grid, {"lr": np.zeros(0)})
    message = "over['lr'][0]: expected a number, got list [0.0]. Pass an int or a float."
    raises(TypeError, message, grid, {"lr": np.zeros((2, 1))})


def test_draws_that_are_none_raise():
    message = "draws: expected at least one setting, got none. Write draws(20, lr=uniform(0, 1))."
    raises(ValueError, message, draws, 20)
    raises(ValueError, "count: expected a whole number, at least 1, got 0. Write count=1.", draws, 0, lr=[1])
    raises(ValueError, "key: expected a whole number, at least 0, got -1. Write key=10.", draws, 1, -1, lr=[1])
    message = "lr: expected a range or a list, got a tuple (0.1, 1). Write uniform(…) or [...]."
    raises(TypeError, message, draws, 20, lr=(0.1, 1))
    raises(TypeError, "lr: expected a list of numbers, got float 0.1. Write [0.1].", draws, 20, lr=0.1)


def test_ranges_that_are_empty_raise():
    for low, high in ((1, 1), (2, 1)):
        for make in (uniform, log_uniform):
            message = f"{make.__name__}: expected low below high, got {low}.0 and {high}.0. Swap or widen them."
            raises(ValueError, message, make, low, high)
    for low in (0, -1):
        message = f"log_uniform: expected low above 0, got {low}.0. Write log_uniform(1e-4, 1)."
        raises(ValueError, message, log_uniform, low, 1)
