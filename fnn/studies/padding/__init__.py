"""Shapes that one program trains: narrower networks padded to the widest, with padding that changes nothing.

- `layers`: Layers that are as wide as the widest of several, and are each of them by a number
- `networks`: Networks of one structure whose widths and activations differ, as one network with a number for each
- `influence`: Whether padding stays 0 and counts in nothing, read off the traced programs of optimizer and penalty
- `families`: Which shapes of a study are worth one program, and whether all else in their runs lets padding change
  nothing
"""
