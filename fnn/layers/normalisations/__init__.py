"""Layers that bring numbers to one size.

- `statistics`: Means over rows that count by their shares, and `1/deviation` without overflow
- `affine`: What all of them end with: a learned scale and offset per channel, and their derivatives
- `batch`: Batch normalisation: each channel over the rows of a batch
- `features`: Normalisation of each row over its features; no row touches another
"""
