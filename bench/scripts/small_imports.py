"""What fnn stands on, imported, and one program compiled: no program that uses them is faster."""

import jax
import numpy as np
import optax

assert optax.sgd(0.02)
assert np.asarray(jax.jit(lambda x: x + 1)(np.float32(1))) == 2
