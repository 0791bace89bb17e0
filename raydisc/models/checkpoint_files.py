"""Which files of a checkpoint's folder are read; nothing else of it is fetched, or sent anywhere."""

WEIGHTS = "model*.safetensors"
"""The weights."""

BESIDE_WEIGHTS = ("*.json", "*.txt", "*.model")
"""The configuration and the tokenizer."""
