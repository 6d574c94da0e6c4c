"""Layers that bring numbers to one size.

- `batch`: Normalisation: each channel over the rows of a batch, or each row over its features
"""
