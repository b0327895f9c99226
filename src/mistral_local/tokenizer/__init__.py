"""Text to token ids and back, by mistral_common."""
