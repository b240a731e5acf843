"""Identity of a text, the same for nightly readings, label snapshots and the texts that a model was trained on."""

import hashlib


def text_hash(text: str) -> str:
    """The first 32 hex digits of the SHA-256 of a text in UTF-8; lone surrogates are hashed as they are.

    Two texts share it only if they are equal, for all that can be known.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
