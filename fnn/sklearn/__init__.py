"""Estimators of scikit-learn: `from fnn.sklearn import FnnClassifier, FnnRegressor, FnnSearchCV`.

They need the extra `sklearn`, which `import fnn` does not import.

- `targets`: Targets of an estimator as those of a loss; outputs of a network as classes, probabilities and numbers
- `sparse`: Rows of a sparse matrix: as the array that `sparse_dense` takes; their columns scaled, zeros kept
- `plans`: What a fit of an estimator is made of: network, loss, optimizer, checked rows, numbers; one epoch of it
- `fits`: Fits that a study has done, which estimators take in place of training
- `estimators`: `FnnClassifier` and `FnnRegressor`
- `study`: The fits of a search as the members of one study
- `search`: `FnnSearchCV`
"""

try:
    import sklearn as _sklearn  # noqa: F401  # the real one: imports are absolute
except ImportError:
    raise ImportError('fnn.sklearn: scikit-learn is not installed. Run: pip install "fnn[sklearn]"') from None

from fnn.sklearn.estimators import FnnClassifier as FnnClassifier, FnnRegressor as FnnRegressor
from fnn.sklearn.search import FnnSearchCV as FnnSearchCV
