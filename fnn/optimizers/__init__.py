"""Optimizers, and what they may ask of a training run. A run takes every optimizer of optax as it is.

- `protocol`: How an optimizer is called: with the gradient, and with the cost of the batch under way where it asks
  for it
"""
