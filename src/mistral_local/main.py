"""The names that scripts of mistral_inference import from its main module."""

from mistral_local.generate import generate

__all__ = ["generate"]
