"""Importance, grid, elastic layers: the supernet in which all candidates live."""
