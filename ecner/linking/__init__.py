"""Names that may be one entity: suggestions, decisions, and the history under the names that follow."""
