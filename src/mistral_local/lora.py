"""The name that scripts of mistral_inference import."""

from mistral_local.args import LoraArgs

__all__ = ["LoraArgs"]
