"""params.json as dataclasses: what a checkpoint is.  How we run it is `config`; nothing here needs torch."""

from mistral_local.args.json_object import parse_object, read_object
from mistral_local.args.mamba import MambaArgs
from mistral_local.args.sections import LoraArgs, MoeArgs, VisionEncoderArgs
from mistral_local.args.transformer import TransformerArgs

__all__ = [
    "LoraArgs",
    "MambaArgs",
    "MoeArgs",
    "TransformerArgs",
    "VisionEncoderArgs",
    "parse_object",
    "read_object",
]
