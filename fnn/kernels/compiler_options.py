"""Options for the compiler: for what runs once, and for small networks."""

from typing import Any

import jax

FUSION_EMITTERS_STAY = (0, 11)  # from this version of JAX on they cannot be switched off
LONGEST_VECTOR = {"xla_cpu_prefer_vector_width": 512}  # bits; a processor that has shorter ones takes its own


def quick_compile_options() -> dict[str, Any]:
    """Compiler options for what is to be compiled soon, such as drawing the first weights: in a tenth of the time.

    XLA cuts a program into up to 32 pieces for LLVM, to compile them side by side. To cut takes as long as it gains
    where LLVM has little to do. And two programs are compiled at a time only if these options are the same for LLVM,
    of which the length of vectors is one.

    On a CPU alone; elsewhere other things take the time.
    """
    if jax.default_backend() != "cpu":
        return {}
    return (
        {"xla_backend_optimization_level": 0, "xla_cpu_parallel_codegen_split_count": 1}
        | no_emitters()
        | LONGEST_VECTOR
    )


def no_emitters() -> dict[str, Any]:
    """The option that compiles fusions in the older way, where XLA has it: twice as fast."""
    return {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < FUSION_EMITTERS_STAY else {}


def small_network_options() -> dict[str, Any]:
    """Compiler options for networks of a handful of numbers, on a CPU.

    XLA calls a library (YNNPACK) for sums and products there, and writes out what they need before. Without it many
    2-3-2 networks in one program train twice as fast; a network on the digits is as fast with it as without.
    """
    return {"xla_cpu_experimental_ynn_fusion_type": ""} if jax.default_backend() == "cpu" else {}
