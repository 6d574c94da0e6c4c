"""All activations under one name."""

from fnn.activations.elementwise import (
    Activation as Activation,
    elementwise as elementwise,
    elu as elu,
    gelu as gelu,
    leaky_relu as leaky_relu,
    prelu as prelu,
    relu as relu,
    rrelu as rrelu,
    selu as selu,
    sigmoid as sigmoid,
    silu as silu,
    softmax as softmax,
    softplus as softplus,
    softsign as softsign,
    tanh as tanh,
)
