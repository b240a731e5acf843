"""Training of taggers with transformers' Trainer."""
