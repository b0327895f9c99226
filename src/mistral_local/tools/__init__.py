"""Function calls that a model writes."""
