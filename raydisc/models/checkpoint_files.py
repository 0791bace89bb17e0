"""The files of a checkpoint's folder that are read; no other file is fetched or sent."""

WEIGHTS = "model*.safetensors"
"""The weights."""

BESIDE_WEIGHTS = ("*.json", "*.txt", "*.model")
"""The configuration and the tokenizer."""
