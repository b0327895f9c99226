"""The local runtime for Mistral's open-weight models."""
