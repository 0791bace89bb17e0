"""Losses, teacher outputs, the sandwich rule and the training loop."""
