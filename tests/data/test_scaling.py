"""Standardised inputs and held-out rows."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

import fnn

TABLES = arrays(np.float64, st.tuples(st.integers(2, 20), st.integers(1, 4)), elements=st.floats(-1e6, 1e6, width=32))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(TABLES)
def test_standardised_columns_have_mean_0_and_deviation_1(x):
    y = fnn.standardise(x)
    for column, result in zip(x.T, y.T, strict=True):
        if (column == column[0]).all():
            assert not result.any()
        elif column.std() > 1e-6 * np.abs(column).max():
            assert abs(result.mean()) < 1e-6
            assert abs(result.std() - 1) < 1e-6


def test_other_rows_do_not_leak_into_the_training_rows():
    x = np.random.default_rng(0).normal(size=(20, 3))
    poisoned = np.full((5, 3), 1e9)
    assert np.array_equal(fnn.standardise(x, poisoned)[0], fnn.standardise(x))
    assert np.allclose(fnn.standardise(x, x)[1], fnn.standardise(x))


def test_a_column_that_never_changes_becomes_0_in_all_rows():
    x, new = fnn.standardise([[0.1, 1.0], [0.1, 2.0], [0.1, 4.0]], [[0.1, 3.0]])
    assert not x[:, 0].any()
    assert new[0, 0] == 0.0


def test_standardise_agrees_with_scikit_learn():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x = np.random.default_rng(0).normal(3, 5, size=(50, 4))
    assert np.allclose(fnn.standardise(x), preprocessing.StandardScaler().fit_transform(x), rtol=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(2, 60), st.floats(0.05, 0.9), st.integers(0, 1000))
def test_held_out_and_kept_rows_are_all_rows_once(rows, fraction, key):
    held_count = int(np.ceil(fraction * rows))
    if held_count == rows:
        with pytest.raises(ValueError, match="fraction: expected rows to be left to train on"):
            fnn.hold_out(np.arange(rows), np.arange(rows), fraction, key=key)
        return
    (x, t), (x_held, t_held) = fnn.hold_out(np.arange(rows), np.arange(rows), fraction, key=key)
    assert sorted([*x, *x_held]) == list(range(rows))
    assert np.array_equal(x, t)
    assert np.array_equal(x_held, t_held)
    assert len(x_held) == held_count


def test_stratified_to_within_a_row_a_class():
    labels = np.repeat([0, 1, 2], [50, 30, 17])  # sorted by class
    for key in range(20):
        _, (_, held) = fnn.hold_out(labels, labels, 0.25, key=key, stratify=labels)
        assert np.abs(np.bincount(held) - 25 / 97 * np.array([50, 30, 17])).max() < 1


@pytest.mark.parametrize("rows", [[[1.0], [3.0]], np.array([[1], [3]])], ids=["a list", "whole numbers"])
def test_what_nobody_chose_to_have_in_float64_gets_the_dtype_of_a_run(rows):
    assert fnn.standardiser(rows)(rows).dtype == fnn.standardise(rows).dtype == np.float32


def test_what_was_chosen_to_be_float64_stays(x64):
    rows = np.array([[1.0], [3.0]])
    assert fnn.standardise(rows).dtype == fnn.standardise(rows.tolist()).dtype == np.float64
    assert fnn.standardise(rows.astype("float32")).dtype == np.float32


def test_same_key_same_rows():
    splits = [fnn.hold_out(np.arange(50), np.arange(50), key=key)[1][0].tolist() for key in (1, 1, 2)]
    assert splits[0] == splits[1] != splits[2]


def test_mistakes_raise():
    with pytest.raises(ValueError, match=r"fraction: expected a share between 0 and 1, got 1\.5"):
        fnn.hold_out([1, 2], [1, 2], 1.5)
    with pytest.raises(ValueError, match="hold_out: expected as many targets as inputs, got 3 and 2"):
        fnn.hold_out([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="train: expected finite numbers"):
        fnn.standardise([[np.nan]])
