"""Layers of networks that branch: several arrays by name or by place, put through layers, chosen from, and joined.

- `splitting`: From several arrays, or to several: a layer for each, or one of them
- `joining`: Several arrays become one: side by side, or their sum
"""
