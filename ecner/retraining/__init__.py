"""Retraining: labels in, a challenger trained, compared with the champion, and promoted where the gate lets it."""
