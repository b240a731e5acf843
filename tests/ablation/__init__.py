"""Which part of the model, and which measure of its training, is worth what."""
