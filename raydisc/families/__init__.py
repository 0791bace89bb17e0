"""Families of transformers: where the attention heads and feed-forward neurons of each one are."""
