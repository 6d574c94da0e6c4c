"""Estimators of sparse matrices: as of the same numbers in an array, in pipelines of words and in searches."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.sparse import csr_array, random_array
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import fnn
from fnn.sklearn import FnnClassifier, FnnRegressor, FnnSearchCV
from fnn.sklearn.estimators import FnnEstimator
from fnn.sklearn.sparse import fit_sparse_scale, pad_rows

X = random_array((60, 7), density=0.4, rng=np.random.default_rng(0), format="csr")
DENSE = X.toarray()
T = np.where(DENSE[:, 0] > DENSE[:, 1], "yes", "no")
MODEL = FnnClassifier((8,), learning_rate_init=0.05, max_iter=20, random_state=0)


@pytest.mark.parametrize("sizes", [(8,), pytest.param((), marks=pytest.mark.slow)])
def test_a_sparse_matrix_is_the_array_of_its_numbers(sizes):
    model = clone(MODEL).set_params(standardise=False, hidden_layer_sizes=sizes)
    sparse, dense = clone(model).fit(X.tocsc(), T), clone(model).fit(DENSE, T)
    expected = dense.predict_proba(DENSE)
    for fitted, x in ((sparse, X), (sparse, DENSE), (dense, X), (sparse, X.tocoo())):
        assert np.allclose(fitted.predict_proba(x), expected, atol=1e-6)
    assert "sparse_dense" in str(sparse.network_) and "sparse_dense" not in str(dense.network_)
    assert sparse.predict_proba(csr_array((2, 7))).shape == (2, 2)  # rows without values


def test_columns_are_divided_by_their_largest_value_and_zeros_stay():
    weights = (np.arange(60) > 9).astype(float)
    scale = fit_sparse_scale(pad_rows(X), 7, weights, True)
    assert np.allclose(scale.deviation, np.abs(DENSE[10:]).max(0))
    by_hand = clone(MODEL).set_params(standardise=False).fit(X / scale.deviation, T, weights)
    assert np.allclose(clone(MODEL).fit(X, T, weights).predict_proba(X), by_hand.predict_proba(X / scale.deviation))
    assert (scale(pad_rows(X))[:, 0] == pad_rows(X)[:, 0]).all()
    one = fit_sparse_scale(pad_rows(csr_array(([-4.0], ([0], [1])), (1, 3))), 3, None, True)
    assert one.deviation.tolist() == [1, 4, 1]


def test_a_row_of_weight_k_is_k_copies_to_the_bit():
    weights = np.random.default_rng(0).integers(0, 4, 60)
    copies = np.repeat(np.arange(60), weights)
    weighted, repeated = clone(MODEL).fit(X, T, weights.astype(float)), clone(MODEL).fit(X[copies], T[copies])
    assert np.array_equal(weighted.predict_proba(X), repeated.predict_proba(X))


def test_words_in_a_pipeline():
    words = ["warm sun", "sun and sea", "cold snow", "snow and ice"] * 5
    kinds = ["summer", "summer", "winter", "winter"] * 5
    model = make_pipeline(TfidfVectorizer(), MODEL).fit(words, kinds)
    assert model.predict(["sea", "ice", "nothing known"])[:2].tolist() == ["summer", "winter"]


@pytest.mark.slow
def test_pieces_and_numbers():
    model = clone(MODEL)
    for rows in (X[:30], DENSE[:30], X[:30]):
        model.partial_fit(rows, T[:30])
    assert model.n_iter_ == 3 and model.loss_curve_[2] < model.loss_curve_[0]
    numbers = FnnRegressor((8,), learning_rate_init=0.05, max_iter=60, random_state=0).fit(X, 100 + DENSE @ np.ones(7))
    assert numbers.score(X, 100 + DENSE @ np.ones(7)) > 0.9


@pytest.mark.slow
def test_a_search_is_one_of_each_split_own_scale(monkeypatch):
    grid = {"learning_rate_init": [1e-4, 0.05], "standardise": [True, False]}
    theirs = GridSearchCV(MODEL, grid, cv=2).fit(X, T)
    alone, train = [], FnnEstimator._train
    monkeypatch.setattr(FnnEstimator, "_train", lambda self, *a: alone.append(1) or train(self, *a))
    mine = FnnSearchCV(MODEL, grid, cv=2).fit(X, T)
    assert len(alone) == 1  # the best, on all rows
    assert np.allclose(mine.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], atol=1e-6)
    assert mine.best_params_ == theirs.best_params_ and np.array_equal(mine.predict(X), theirs.predict(X))


@pytest.mark.slow
def test_a_network_of_ones_own():
    with pytest.raises(fnn.ShapeError, match=r"for sparse rows write fnn\.sparse_dense in its place"):
        FnnClassifier(network=fnn.serial(fnn.dense(2))).fit(X, T)
    own = fnn.serial(fnn.sparse_dense(7, 2))
    assert clone(MODEL).set_params(network=own).fit(X, T).predict(X).shape == (60,)
