"""The nested sections of params.json.  Names and order are those of mistral_inference, so old scripts work."""

from dataclasses import dataclass

from simple_parsing.helpers import Serializable

from mistral_local.args.checks import check_float, check_int
from mistral_local.errors import ParamsError


@dataclass
class MoeArgs(Serializable):
    """Mixture of experts: each token goes to `num_experts_per_tok` of `num_experts` (arXiv:2401.04088)."""

    num_experts: int
    num_experts_per_tok: int

    def __post_init__(self) -> None:
        check_int("moe.num_experts", self.num_experts, low=1, high=4096)
        check_int("moe.num_experts_per_tok", self.num_experts_per_tok, low=1, high=4096)
        if self.num_experts_per_tok > self.num_experts:
            raise ParamsError(
                f"moe.num_experts_per_tok: expected at most num_experts ({self.num_experts}), "
                f"found {self.num_experts_per_tok}"
            )


@dataclass
class LoraArgs(Serializable):
    """Low-rank adapters: W + scaling * B @ A, with A of `rank` rows (arXiv:2106.09685)."""

    rank: int
    scaling: float

    def __post_init__(self) -> None:
        check_int("lora.rank", self.rank, low=1, high=65536)
        check_float("lora.scaling", self.scaling, low=0.0, high=1e6)


@dataclass
class VisionEncoderArgs(Serializable):
    """The image encoder of the Pixtral family."""

    hidden_size: int
    num_channels: int
    image_size: int
    patch_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    rope_theta: float = 1e4
    image_token_id: int = 10
    adapter_bias: bool = True
    spatial_merge_size: int = 1
    add_pre_mm_projector_layer_norm: bool = False
    mm_projector_id: str = ""
