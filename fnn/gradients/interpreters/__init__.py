"""Traced programs, evaluated otherwise: in complex numbers, with rounding added, choice by choice.

- `walk`: A traced program evaluated one equation after another, by other rules of calculation than JAX's own
- `branches`: Which piece of a piecewise function a point lies on: every choice that the program makes on the way,
  as one number
- `complex_step`: Derivatives by a complex step: `f'(x) = Im f(x + ih)/h` for a tiny h, exact to rounding where f is
  analytic
- `rounding`: What rounding alone does to a result: the program evaluated again with an ulp added to each number it
  computes
- `widening`: A program that computes in a narrow dtype, evaluated in a wide one: the same formulas without their
  rounding
"""
