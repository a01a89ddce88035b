"""Benchmark of FDBPL's training step and of the baselines it replaces, on one machine in one process.

`profiles` lists the measurements, `synthetic_inputs` generates images and class names, `steps` builds the variants of a
training step from `official_recipes`, `lower_bound` and our trainers, `timing` runs them in turn, `measurements` has
the other measurements, `targets` compares them with bounds, and `page` writes docs/PERFORMANCE.md.
"""
