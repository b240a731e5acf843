"""The Prefect flows: thin tasks over the plain stages of ecner."""
