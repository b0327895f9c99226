"""The models, as single-device torch modules."""

from mistral_local.model.transformer import Transformer

__all__ = ["Transformer"]
