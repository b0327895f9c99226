"""The nested sections of params.json.  Names and order are those of mistral_inference, so old scripts work."""

from dataclasses import dataclass

from simple_parsing.helpers import Serializable

from mistral_local.args.checks import check_float, check_int
from mistral_local.args.json_object import shown
from mistral_local.config import QuantFormat
from mistral_local.errors import ParamsError, UnsupportedCheckpointError

FORMAT_OF: dict[str, QuantFormat] = {"fp8_e4m3": "fp8", "int8": "int8", "int4": "int4"}
QUANTIZATION_VALUES: dict[str, tuple[str | None, ...]] = {
    "qformat_weight": tuple(FORMAT_OF),
    "qscheme_act": (None, "TENSOR", "NO_SCALES"),
    "qscheme_weight": (None, "CHANNEL", "GROUP", "BLOCK"),
}


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
class QuantizationArgs(Serializable):
    """Quantized matrices inside the blocks: w = q * qscale_weight.

    Attributes:
        qformat_weight: fp8_e4m3 as published; int8 and int4 as written by `mistral-local quantize`.
        qscheme_act: how published checkpoints round activations when they run in fp8; here activations are not rounded.
        qscheme_weight: what a scale belongs to: a matrix if absent, as published; CHANNEL a row, GROUP some columns of a row,
            BLOCK 128 rows and columns.
    """

    qformat_weight: str
    qscheme_act: str | None = None
    qscheme_weight: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in QUANTIZATION_VALUES.items():
            if getattr(self, name) not in allowed:
                raise UnsupportedCheckpointError(
                    f"quantization.{name}: expected {' or '.join(value for value in allowed if value)}, "
                    f"found {shown(getattr(self, name))}"
                )

    @property
    def format(self) -> QuantFormat:
        """What `q` is."""
        return FORMAT_OF[self.qformat_weight]


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
