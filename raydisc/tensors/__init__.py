"""Tensors that are read lazily or shared between processes."""
