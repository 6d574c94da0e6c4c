"""Files that are whole or absent: networks, runs, checkpoints; and folders that one process at a time writes to.

- `locks`: One writer per folder: a lock that ends with the process that holds it
- `files`: Named arrays and a description of them in one file, which is whole or is not there at all
- `pieces`: A state that is split over several processes: each writes its pieces to a file of its own, which a
  checkpoint lists
- `checkpoints`: The folder of a run: its newest checkpoints, each whole or not there
- `folders`: The folder of a run or of a study: whose it is, and what a study keeps in it besides checkpoints
- `networks`: A network in a closed vocabulary: the public factories and activations of fnn by name, numbers, text,
  None, tuples and arrays
- `saving`: A run and its network in one file: `save` and `load`
- `export`: Networks for programs that have no fnn: files that other runtimes read
"""
