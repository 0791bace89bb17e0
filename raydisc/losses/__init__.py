"""Distillation losses, each as a sum and a count."""
