"""`fnn.sklearn` is imported on use, and says what to install."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fnn

PROGRAM = """
    import sys

    import fnn

    assert "fnn.sklearn" not in sys.modules and "scipy.stats" not in sys.modules
    sys.modules["sklearn"] = None  # as if it were not installed
    try:
        fnn.sklearn
    except ImportError as error:
        print(error)
"""


def test_without_scikit_learn_it_says_what_to_install():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == 'fnn.sklearn: scikit-learn is not installed. Run: pip install "fnn[sklearn]"'


def test_it_is_an_attribute_and_other_names_are_none():
    pytest.importorskip("sklearn")
    assert fnn.sklearn.FnnClassifier.__name__ == "FnnClassifier"
    with pytest.raises(AttributeError, match="module 'fnn' has no attribute 'sklaern'"):
        fnn.sklaern  # noqa: B018
