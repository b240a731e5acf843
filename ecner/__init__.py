"""Batch NER over Chinese e-commerce reviews: tables of brand, product and model-number mentions."""
