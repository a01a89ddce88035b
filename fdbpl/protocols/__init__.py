"""Protocols (which runs train and test a model), grids of runs, and their launchers."""
