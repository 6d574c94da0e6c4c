"""Options for the compiler: for what runs once, for small networks, and for the same bits on a GPU."""

import os
from typing import Any

import jax

FUSION_EMITTERS_STAY = (0, 11)  # from this version of JAX on they cannot be switched off
LONGEST_VECTOR = {"xla_cpu_prefer_vector_width": 512}  # bits; a processor that has shorter ones takes its own
SAME_BITS = "xla_gpu_deterministic_ops"


def quick_compile_options() -> dict[str, Any]:
    """Compiler options for what is to be compiled soon, such as drawing the first weights: in a tenth of the time.

    XLA cuts a program into up to 32 pieces for LLVM, to compile them side by side. To cut takes as long as it gains
    where LLVM has little to do. And two programs are compiled at a time only if these options are the same for LLVM,
    of which the length of vectors is one.

    On a CPU alone; for a GPU it is trying out algorithms that takes the time.
    """
    if jax.default_backend() != "cpu":
        return same_bits_options()
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


def same_bits_options() -> dict[str, Any]:
    """Compiler options for the same last bits whenever the same program is compiled for a GPU.

    Without them XLA times several algorithms for each product and convolution while it compiles, takes the fastest, and
    adds some sums up in any order. On an H200 a first `fit` takes 0.55 of the time with them, the first `predict` for
    each of 100 numbers of rows 0.2. A step takes 1.0 to 1.2 times as long, with an embedding of 5,000 categories twice.

    Where `XLA_FLAGS` names the option, the user has decided.
    """
    if jax.default_backend() != "gpu" or SAME_BITS in os.environ.get("XLA_FLAGS", ""):
        return {}
    return {SAME_BITS: True}
