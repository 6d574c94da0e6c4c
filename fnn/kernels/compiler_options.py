"""Options for the compiler: for what runs once, and for small networks."""

from typing import Any

import jax


def quick_compile_options() -> dict[str, Any]:
    """Compiler options for what runs once, such as drawing the first weights: compiled in a tenth of the time.

    On a CPU alone; elsewhere other things take the time.
    """
    if jax.default_backend() != "cpu":
        return {}
    older = {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 11) else {}
    return {"xla_backend_optimization_level": 0} | older


def small_network_options() -> dict[str, Any]:
    """Compiler options for networks of a handful of numbers, on a CPU.

    XLA calls a library (YNNPACK) for sums and products there, and writes out what they need before. Without it many
    2-3-2 networks in one program train twice as fast; a network on the digits is as fast with it as without.
    """
    return {"xla_cpu_experimental_ynn_fusion_type": ""} if jax.default_backend() == "cpu" else {}
