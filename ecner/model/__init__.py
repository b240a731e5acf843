"""The taggers: their parts, their CRF and their folders."""
