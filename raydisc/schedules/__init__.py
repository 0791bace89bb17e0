"""Schedules: ways to get from teacher to student, each as short as the paper's method section."""
