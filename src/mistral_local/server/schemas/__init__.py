"""What clients send, as pydantic models: the form of a body and the ranges of its values."""
