"""Tasks: data, tokenisation, batching and metrics."""
