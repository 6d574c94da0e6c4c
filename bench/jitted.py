"""A function of arrays jitted with the options that `fnn.fit` compiles a run with."""

from collections.abc import Callable
from typing import Any

import jax

from fnn.compilation.same_bits import same_bits_options
from fnn.kernels.effort import count_work, effort_options


def jit_as_fit(function: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    """`jax.jit(function, **more)`, for arguments such as these, compiled as hard as `fit` compiles a long run."""
    work = count_work(jax.jit(function, **more).trace(*arguments).jaxpr.jaxpr)
    options = same_bits_options() | effort_options("high", work)
    return jax.jit(function, compiler_options=options or None, **more)
