"""What all tests share: no silent mixing of dtypes, and float64 for the tests that ask for it."""

import jax
import pytest
from hypothesis import settings

jax.config.update("jax_numpy_dtype_promotion", "strict")
settings.register_profile("fnn", deadline=None, max_examples=25, derandomize=True, database=None)
settings.load_profile("fnn")


@pytest.fixture
def x64():
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield
