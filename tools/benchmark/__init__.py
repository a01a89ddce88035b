"""Benchmark of FDBPL's training step and of the baselines it replaces, on one machine in one process.

`profiles` lists what is measured, `synthetic_inputs` makes images and class names, `steps` builds the variants of a
training step from `official_recipes`, `lower_bound` and the project's own trainers, `timing` runs them in turn,
`measurements` times everything else, `targets` compares with bounds, `page` writes docs/PERFORMANCE.md.
"""
