"""The gradient of a cost, by hand and by autodiff, and the check that they are right."""
