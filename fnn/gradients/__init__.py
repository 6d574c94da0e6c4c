"""The gradient of a cost, by hand and by autodiff, and the check that they are right.

- `cost`: Two makers of one function, the derivative of a batch's cost: by autodiff, and by the hand-derived rules
- `jacobians`: The residuals of a sum of squares and their Jacobian, which second-order methods go by
- `interpreters`: Traced programs, evaluated otherwise: in complex numbers, with rounding added, choice by choice
- `finite_differences`: Derivatives by differences: a function's values at a few points on either side, and nothing
  known of its inside
- `report`: What a check of derivatives found: the figures of each leaf, a verdict in words, and the table of them
- `slopes`: The slope of a cost along directions in the space of its parameters, in ways that know no rule of
  differentiation
- `figures`: The figures of a check of derivatives, as arrays with one number per leaf; and what they are worth
- `check`: Is a derivative right? By hand, by autodiff, by a complex step and by differences, side by side, leaf by
  leaf
"""
