"""Networks of other libraries as layers; each library is imported when it is used.

- `convolutions`: Convolutions in their networks, computed as fnn's own are
- `foreign`: What all of them share: trees as dicts, rows that fill up a batch, the error where rules by hand are wanted
- `linen`: `from_flax_linen`
- `nnx`: `from_flax_nnx`
- `equinox`: `from_equinox`
- `haiku`: `from_haiku`
"""
