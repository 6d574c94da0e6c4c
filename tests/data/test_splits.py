"""Folds: the very indices of scikit-learn, what is guaranteed of them, and what raises."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import fnn
from fnn.data.splits import are_classes, classes_of, folds

KEYS = [None, 0, 1, 2**32 - 1]
RNG = np.random.default_rng(0)


def same(got, wanted):
    """The same pairs, bit for bit and dtype for dtype."""
    wanted = list(wanted)
    assert len(got) == len(wanted)
    for ours, theirs in zip(itertools.chain(*got), itertools.chain(*wanted), strict=True):
        assert ours.dtype == np.int64
        np.testing.assert_array_equal(ours, theirs)


def splitter(kind, k, key):
    select = pytest.importorskip("sklearn.model_selection")
    return getattr(select, kind)(k) if key is None else getattr(select, kind)(k, shuffle=True, random_state=key)


# ---- scikit-learn's indices


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("rows, k", [(2, 2), (3, 2), (10, 3), (11, 5), (11, 11), (12, 5), (97, 10), (1000, 7)])
def test_plain_folds_are_those_of_kfold(rows, k, key):
    same(folds(rows, k, key=key), splitter("KFold", k, key).split(np.zeros(rows)))


# (classes, k): sorted and mixed, in orders of appearance other than their own, sizes that k does not divide.
CLASSES = [
    (np.repeat([0, 1], [2, 2]), 2),
    (np.repeat([2, 0, 1], [5, 3, 7]), 3),
    (RNG.permutation(np.repeat([3, -1, 7, 10], [5, 8, 13, 31])), 5),
    (RNG.permutation(np.repeat([0, 1], [11, 101])), 10),
    (np.zeros(7, int), 3),  # a single class
    (RNG.permutation(np.repeat(["one", "two", "three"], [4, 5, 6])), 4),
    (RNG.permutation(np.repeat([False, True], [6, 9])), 4),
    (RNG.permutation(np.repeat([0.0, 2.0, 1.0], [6, 9, 4])), 4),
    (RNG.permutation(np.repeat(np.arange(40), 5)), 5),
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("classes, k", CLASSES)
def test_stratified_folds_are_those_of_stratified_kfold(classes, k, key):
    wanted = splitter("StratifiedKFold", k, key).split(np.zeros(len(classes)), classes)
    same(folds(len(classes), k, key=key, stratify=classes), wanted)


# (groups, k): all alike in size (the order of ties), very unlike, as many groups as folds.
GROUPS = [
    (np.array([0, 0, 1]), 2),
    (np.repeat(np.arange(7), 3), 3),
    (RNG.permutation(np.repeat([5, 3, 9, -2, 4], [1, 2, 3, 30, 2])), 4),
    (RNG.integers(0, 30, 200), 7),
    (RNG.permutation(np.repeat(["b", "a", "d", "c", "é"], [3, 3, 4, 4, 1])), 5),
    (RNG.integers(0, 9, 50).astype(float), 2),
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("groups, k", GROUPS)
def test_grouped_folds_are_those_of_group_kfold(groups, k, key):
    wanted = splitter("GroupKFold", k, key).split(np.zeros(len(groups)), groups=groups)
    same(folds(len(groups), k, key=key, groups=groups), wanted)


@pytest.mark.parametrize("repeats", [1, 2, 5])
@pytest.mark.parametrize("key", KEYS[1:])
def test_repeats_are_those_of_the_repeated_splitters(key, repeats):
    select = pytest.importorskip("sklearn.model_selection")
    how = {"n_splits": 3, "n_repeats": repeats, "random_state": key}
    classes, groups = np.array([1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 1, 0]), np.arange(13) // 2 % 5
    same(folds(13, 3, key=key, repeats=repeats), select.RepeatedKFold(**how).split(classes))
    wanted = select.RepeatedStratifiedKFold(**how).split(classes, classes)
    same(folds(13, 3, key=key, stratify=classes, repeats=repeats), wanted)
    # there is no repeated splitter of groups: one generator, passed on from repeat to repeat, as in the others
    state = np.random.RandomState(key)
    wanted = [s for _ in range(repeats) for s in splitter("GroupKFold", 3, state).split(classes, groups=groups)]
    same(folds(13, 3, key=key, groups=groups, repeats=repeats), wanted)


def test_the_first_repeat_is_what_the_key_gives_without_repeats():
    same(folds(13, 3, key=4, repeats=3)[:3], folds(13, 3, key=4))
    tests = [test.tolist() for _, test in folds(13, 3, key=4, repeats=3)]
    assert len(set(map(tuple, tests))) == 9


# ---- guarantees


@given(st.integers(2, 60), st.data())
def test_every_row_is_tested_once_a_repeat_and_sizes_differ_by_one_at_most(rows, data):
    k = data.draw(st.integers(2, rows))
    repeats = data.draw(st.integers(1, 3))
    pairs = folds(rows, k, key=data.draw(st.integers(0, 2**32 - 1)), repeats=repeats)
    assert len(pairs) == repeats * k
    for i in range(0, len(pairs), k):
        whole(pairs[i : i + k], rows)
        sizes = [len(test) for _, test in pairs[i : i + k]]
        assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.integers(5, 20), min_size=1, max_size=6), st.integers(2, 5), st.none() | st.integers(0, 99))
def test_every_class_is_spread_evenly(sizes, k, key):
    classes = np.random.default_rng(k).permutation(np.repeat(np.arange(len(sizes)), sizes))
    pairs = folds(len(classes), k, key=key, stratify=classes)
    whole(pairs, len(classes))
    counts = np.array([np.bincount(classes[test], minlength=len(sizes)) for _, test in pairs])
    assert np.ptp(counts, axis=0).max() <= 1
    assert np.ptp(counts.sum(1)) <= 1


@given(st.lists(st.integers(0, 12), min_size=20, max_size=60), st.integers(2, 5), st.none() | st.integers(0, 99))
def test_no_group_is_torn_apart(groups, k, key):
    groups = np.array([*groups, *range(5)])  # as many as folds, at least
    pairs = folds(len(groups), k, key=key, groups=groups)
    whole(pairs, len(groups))
    assert not any(set(groups[train]) & set(groups[test]) for train, test in pairs)
    if key is not None:
        numbers = [len(set(groups[test])) for _, test in pairs]
        assert max(numbers) - min(numbers) <= 1


def whole(pairs, rows):
    assert sorted(np.concatenate([test for _, test in pairs])) == list(range(rows))
    for train, test in pairs:
        assert len(test)
        assert sorted([*train, *test]) == list(range(rows))
        assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all()


# ---- what may be handed over


def test_rows_are_a_number_or_something_as_long():
    for rows in (np.int64(6), np.zeros((6, 2)), [[1.0]] * 6, jnp.zeros((6, 1)), range(6)):
        same(folds(rows, 4), folds(6, 4))


def test_classes_may_come_in_any_form():
    pandas = pytest.importorskip("pandas")
    labels = np.array([0, 1, 1, 0, 2, 2, 1, 2, 0, 2])
    names = ["ab", "c", "c", "ab", "d", "d", "c", "d", "ab", "d"]
    wanted = folds(10, 3, key=0, stratify=labels)
    forms = [labels.tolist(), labels.astype(np.uint8), labels.astype(np.float32), np.eye(3)[labels]]
    forms += [np.eye(3, dtype=int)[labels].tolist(), labels.astype(">i4"), names, np.array(names, object)]
    forms += [jnp.asarray(labels), jnp.asarray(labels, jnp.bfloat16), np.array(names, np.dtypes.StringDType())]
    forms += [pandas.Series(x, index=range(7, 17)) for x in (labels, names, pandas.Categorical(names))]
    for form in forms:
        same(folds(10, 3, key=0, stratify=form), wanted)
    for column in ((labels > 1)[:, None], (labels > 1)[:, None] * 1.0):
        same(folds(10, 3, key=0, stratify=column), folds(10, 3, key=0, stratify=labels > 1))


def test_classes_of_knows_what_is_no_class():
    for t in (np.array([0.0, 1.0]), np.array([[2], [0]]), np.array([[1, 1], [0, 1]]), np.zeros((2, 2, 2), int)):
        assert not are_classes(t)
        np.testing.assert_array_equal(classes_of(t), [0, 0])
    for t, classes in (([3, 5], [3, 5]), ([[1.0], [0.0]], [1, 0]), ([[0, 0, 1], [1, 0, 0]], [2, 0])):
        assert are_classes(np.array(t))
        np.testing.assert_array_equal(classes_of(np.array(t)), classes)


def test_nothing_of_the_users_is_changed_and_no_generator_of_theirs_moves():
    classes = np.array([1, 0, 1, 0, 1, 0])
    classes.flags.writeable = False
    before = np.random.get_state()[1].copy()
    folds(6, 2, key=0, stratify=classes)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


# ---- errors


def raises(kind, message, *args, **more):
    with pytest.raises(kind) as caught:
        folds(*args, **more)
    assert type(caught.value) is kind and str(caught.value) == message


@pytest.mark.parametrize(
    "rows, got",
    [(5.0, "float"), (True, "bool"), (None, "NoneType"), ("x", "str"), (np.array(9), "ndarray"), ({"x"}, "set")],
)
def test_what_is_no_number_of_rows_raises(rows, got):
    raises(TypeError, f"rows: expected how many, or an array of them, got {got}. Write folds(len(x)).", rows)


def test_a_pair_of_inputs_and_targets_has_not_two_rows():
    message = "rows: expected how many, or an array of them, got tuple. Write folds(len(x))."
    raises(TypeError, message, (np.zeros(9), np.zeros(9)), 2)


def test_too_few_rows_raise():
    raises(ValueError, "rows: expected at least 2 rows, got 1. Pass more.", 1)
    raises(ValueError, "rows: expected at least 2 rows, got 0. Pass more.", [])
    raises(ValueError, "rows: expected at least 2 rows, got -3. Pass more.", -3)


def test_too_few_or_too_many_folds_raise():
    for k in (1, 2.0, True):
        raises(ValueError, f"k: expected a whole number, at least 2, got {k}. Write k=2.", 8, k)
    raises(ValueError, "k: expected at most as many folds as rows, 8, got 9. Write k=8.", 8, 9)
    message = "k: expected at most as many folds as groups, 3, got 4. Write k=3."
    raises(ValueError, message, 8, 4, groups=[0, 0, 0, 1, 1, 1, 2, 2])
    message = "groups: expected at least 2 groups, got only 'u'. Write groups=None."
    raises(ValueError, message, 8, 4, groups=["u"] * 8)


@pytest.mark.parametrize("key", [-1, 2**32, 0.5, False, "0", [0, 1]])
def test_what_is_no_seed_raises(key):
    got = type(key).__name__ if isinstance(key, (str, list)) else key
    message = f"key: expected None or a whole number from 0 to 2³² - 1, got {got}. Write key=0."
    raises(ValueError, message, 8, key=key)


def test_repeats_that_are_none_raise():
    raises(ValueError, "repeats: expected a whole number, at least 1, got 0. Write repeats=1.", 8, repeats=0)
    raises(ValueError, "key: expected a seed, else 3 repeats are alike, got None. Write key=0.", 8, repeats=3)


def test_classes_and_groups_together_raise():
    message = "folds: expected stratify or groups, got both. Pass groups alone, to keep them whole."
    raises(ValueError, message, 8, 2, stratify=[0] * 8, groups=[0, 1] * 4)


def test_a_class_with_fewer_rows_than_folds_raises():
    message = "stratify: expected at least 4 rows per class, got 3 of class 'a'. Write k=3, or stratify=None."
    raises(ValueError, message, 8, 4, stratify=["a", "b", "b", "a", "b", "a", "b", "b"])
    message = "stratify: expected at least 2 rows per class, got 1 of class 7. Add rows of it, or stratify=None."
    raises(ValueError, message, 8, 2, stratify=[5, 6, 6, 6, 5, 7, 6, 5])


@pytest.mark.parametrize("name", ["stratify", "groups"])
def test_what_are_no_classes_or_groups_raises(name):
    message = f"{name}: expected one for each of 8 rows, got 7. Pair them row by row."
    raises(fnn.ShapeError, message, 8, 2, **{name: [0] * 7})
    message = f"{name}: expected whole numbers or names, got 0.5 in row 2. Number them 0, 1, …."
    raises(ValueError, message, 3, 2, **{name: [0.0, 1.0, 0.5]})
    raises(ValueError, message, 3, 2, **{name: jnp.asarray([0.0, 1.0, 0.5], jnp.bfloat16)})
    raises(ValueError, message, 3, 2, **{name: [[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]})
    for names, got in ((["a", None, "b"], "None in row 1"), (["a", "b", np.nan], "nan in row 2")):
        message = f"{name}: expected names only, got {got}. Name it too, or drop the row."
        raises(TypeError, message, 3, 2, **{name: names})
        raises(TypeError, message, 3, 2, **{name: np.array(names, object)})
    message = f"{name}: expected names only, got 1 in row 0. Name it too, or drop the row."
    raises(TypeError, message, 2, 2, **{name: [1, "b"]})
    message = f"{name}: expected finite numbers, got nan or inf in 1 of 3 rows, the first is row 2. "
    raises(ValueError, message + "Remove or impute them.", 3, 2, **{name: [0, 1, np.nan]})
    message = f"{name}: expected a table of rows, got the single number True. Pass an array."
    raises(ValueError, message, 3, 2, **{name: True})
    message = f"{name}: expected numbers, got dtype <U1. Convert to numbers, classes to 0, 1, …."
    raises(TypeError, message, 3, 2, **{name: "t"})
    message = f"{name}: expected an array, got a masked one. Fill the gaps or drop their rows."
    raises(TypeError, message, 2, 2, **{name: np.ma.masked_array(["a", "b"], [True, False])})


@pytest.mark.parametrize(
    "classes, got",
    [
        ([[1, 1], [0, 1], [1, 0]], "int64 (3, 2)"),
        ([[0], [1], [2]], "int64 (3, 1)"),
        ([["a"], ["b"], ["c"]], "<U1 (3, 1)"),
        (np.zeros((3, 2, 2)), "float64 (3, 2, 2)"),
    ],
    ids=str,
)
def test_a_table_that_is_not_one_hot_raises(classes, got):
    wanted = "one class a row, one-hot rows, or a column of 0 and 1"
    message = f"stratify: expected {wanted}, got other {got}. Pass classes of shape (3,)."
    raises(fnn.ShapeError, message, 3, 2, stratify=classes)


def test_a_column_of_groups_raises():
    message = "groups: expected shape (3,), got (3, 1). Pass one group a row."
    raises(fnn.ShapeError, message, 3, 2, groups=[[0], [1], [2]])
