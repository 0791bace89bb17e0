"""The outputs of a teacher that a student is trained on, computed in each step or read from a cache."""
