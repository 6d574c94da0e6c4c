"""All activations under one name.

- `limits`: nan and infinity in functions made of pieces: nan stays nan, infinity has its limit, to autodiff as well
- `softmax`: Softmax of logits and its logarithm, written so that no digit is lost where one class leads
- `formulas`: A formula of an elementwise activation, applied: what it raises is named, and what it returns is checked
- `elementwise`: Activations: callables that know their derivative
"""

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
