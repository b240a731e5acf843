"""Files of texts, with labels and without; no torch."""
