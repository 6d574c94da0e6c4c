"""What the tests count in a traced program."""

from fnn.kernels.loops import inner_jaxprs


def functions_in(jaxpr):
    """How many calls of functions a program has: JAX lowers each, and XLA puts it in its place again."""
    inner = [i for equation in jaxpr.eqns for i in inner_jaxprs(equation)]
    return sum(equation.primitive.name in ("jit", "pjit") for equation in jaxpr.eqns) + sum(map(functions_in, inner))
