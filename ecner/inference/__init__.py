"""Batch reading of texts with a tagger."""
