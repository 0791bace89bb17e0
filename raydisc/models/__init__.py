"""Families, teachers and students: where a model's units are, how a model is read and written."""
