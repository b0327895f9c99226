"""params.json of Codestral-Mamba."""

from dataclasses import dataclass

from simple_parsing.helpers import Serializable

from mistral_local.errors import ParamsError


@dataclass
class MambaArgs(Serializable):
    """What a Mamba2 checkpoint is; names and order are those of mistral_inference."""

    dim: int
    n_layers: int
    vocab_size: int
    n_groups: int
    rms_norm: bool
    residual_in_fp32: bool
    fused_add_norm: bool
    pad_vocab_size_multiple: int
    tie_embeddings: bool
    model_type: str = "mamba"

    def __post_init__(self) -> None:
        if self.model_type != "mamba":
            raise ParamsError(f'model_type: expected "mamba", found "{self.model_type}"')
