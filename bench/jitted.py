"""A function of arrays jitted with the options that `fnn.fit` compiles a run with."""

from collections.abc import Callable
from typing import Any

import jax

from fnn.kernels.effort import count_work, effort_options


def jit_as_fit(function: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    """`jax.jit(function, **more)`, for arguments such as these, compiled as hard as `fit` compiles a long run."""
    work = count_work(jax.jit(function, **more).trace(*arguments).jaxpr.jaxpr)
    return jax.jit(function, compiler_options=effort_options("high", work) or None, **more)
