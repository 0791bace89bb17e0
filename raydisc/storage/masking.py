"""Keeping credentials out of messages and files."""

import os
import re

_IN_ADDRESS = re.compile(r"(?<=://)[^\s'\"]*:[^\s'\"]*@")
_IN_QUERY = re.compile(r"((?:access_?key|secret|token|password|signature|credential)[a-z_]*=)[^&\s'\"]+", re.IGNORECASE)
_VARIABLE = re.compile(r"(SECRET|TOKEN|PASSWORD|ACCESS_KEY|ACCOUNT_KEY)(?!.*_(PATH|FILE)$)")
_SHORTEST = 8
"""The length of the shortest masked value; shorter values of variables may well be ordinary words."""


def masked(text: str) -> str:
    """Return a text with ``***`` for credentials in addresses and for values of secret environment variables."""
    text = _IN_QUERY.sub(r"\1***", _IN_ADDRESS.sub("***@", text))
    for name, value in os.environ.items():
        if _VARIABLE.search(name) and len(value) >= _SHORTEST:
            text = text.replace(value, "***")
    return text


def has_credentials(address: str) -> bool:
    """Whether a text is an address that carries a password or a key."""
    return "://" in address and bool(_IN_ADDRESS.search(address) or _IN_QUERY.search(address))
