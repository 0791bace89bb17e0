"""Stages: keys, requests and results; the contract between schedules and runtime, and how each stage is computed."""
