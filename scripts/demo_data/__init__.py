"""Data of the demo checkpoint: synthetic conversations, a tokenizer, and a held-out set of prompts."""
