"""Files that are whole or absent: networks, runs, checkpoints.

- `files`: Named arrays and a description of them in one file, which is whole or is not there at all
- `checkpoints`: The folder of a run: its newest checkpoints, each whole or not there
- `networks`: A network in a closed vocabulary: the public factories and activations of fnn by name, numbers, text,
  None, tuples and arrays
- `saving`: A run and its network in one file: `save` and `load`
"""
