"""The benchmark: FDBPL's step beside those of the recipes it replaces, on one machine in one process.

`profiles` says what is measured, `world` draws the pictures, `official` and `ours` are the arms of a step, `limit` is
what no step can undercut, `timing` runs arms in turn, `stages` measures what is no step, `floors` compares, `document`
writes.
"""
