"""What a user hands over, checked: one function for each kind of argument.

Each raises `name: expected X, got Y. Hint.` for what is not of its kind. What is traced is let through where its value
need not be known.

- `modules`: Networks of other libraries, recognised by their classes, so that a message can name the adapter
- `values`: A value in a message; words, True and False, things of a class
- `numbers`: Numbers and keys of random numbers: a coefficient, a learning rate, a number of steps, a seed
- `calls`: Calls with arguments that a function does not have: what it has in their place
- `arrays`: Arrays, traced or not: what a user has as an array of NumPy or JAX, and numbers that fit one
- `constants`: Whether what a function computes can ever change
- `functions`: Functions of the user's: what they can be called with, what they raise, what they return
- `sparse`: Sparse rows: a matrix of SciPy as one array of columns' numbers and values, each row padded to the same room
- `leaves`: Rows that lie in several arrays with one row axis, a dict or a tuple of arrays; their leaves by name, their
  shapes
- `trees`: Trees of arrays as named arrays, and back: what a file can hold
"""

from fnn.arguments.arrays import (
    as_array as as_array,
    as_floats as as_floats,
    as_numpy as as_numpy,
    beside as beside,
    like as like,
)
from fnn.arguments.calls import (
    argument_hint as argument_hint,
    explain_call as explain_call,
    public_name as public_name,
)
from fnn.arguments.functions import (
    OUR_FORM as OUR_FORM,
    array_of as array_of,
    call as call,
    function as function,
)
from fnn.arguments.modules import adapter_hint as adapter_hint, is_module as is_module
from fnn.arguments.numbers import (
    epochs as epochs,
    finite as finite,
    fraction as fraction,
    key as key,
    number as number,
    real_number as real_number,
    scalar as scalar,
    seed_words as seed_words,
    whole_number as whole_number,
)
from fnn.arguments.values import (
    describe_error as describe_error,
    describe_thing as describe_thing,
    describe_value as describe_value,
    flag as flag,
    instance as instance,
    is_deleted as is_deleted,
    one_of as one_of,
)
