"""What a teacher gives its student to learn from, computed in each step or read from a cache."""
