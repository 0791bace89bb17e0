"""The supernet, the one set of weights in which all candidates live: importance, candidates, elastic layers."""
