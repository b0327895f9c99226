"""The name that scripts of mistral_inference import."""

from mistral_local.model.transformer import Transformer

__all__ = ["Transformer"]
