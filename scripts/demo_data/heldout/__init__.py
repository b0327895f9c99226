"""The held-out prompts: phrasings, names, tools and functions that training never shows."""
