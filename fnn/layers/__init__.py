"""Layers: `init`, `forward` and `backward` of each, with both formulas."""
