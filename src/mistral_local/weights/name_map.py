"""Hugging Face tensor names, put into the native names of consolidated.safetensors.

transformers rotates the halves of a head, the native format its pairs (2i, 2i + 1), so rows of wq and wk are stored in
another order.  With heads of 4 rows, rows are stored 0 2 1 3; seen as (2, 2) and transposed they are native again:

    stored [r0 r2 r1 r3] -> (2 halves, 2 pairs) = [[r0 r2], [r1 r3]] -> transposed [[r0 r1], [r2 r3]] -> r0 r1 r2 r3
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from mistral_local.args import TransformerArgs
from mistral_local.errors import UnsupportedCheckpointError, WeightsError
from mistral_local.kernels.quantized import SCALE_BLOCK
from mistral_local.parallel.rules import ROWS, Part
from mistral_local.weights.rounding import STORED_SCALES
from mistral_local.weights.stored import StoredTensor

TOP = {
    "model.embed_tokens.weight": "tok_embeddings.weight",
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "output.weight",
}
IN_LAYER = {
    "input_layernorm.weight": "attention_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.weight": "attention.wq.weight",
    "self_attn.k_proj.weight": "attention.wk.weight",
    "self_attn.v_proj.weight": "attention.wv.weight",
    "self_attn.o_proj.weight": "attention.wo.weight",
    "mlp.gate_proj.weight": "feed_forward.w1.weight",
    "mlp.down_proj.weight": "feed_forward.w2.weight",
    "mlp.up_proj.weight": "feed_forward.w3.weight",
    "block_sparse_moe.gate.weight": "feed_forward.gate.weight",
    "mlp.gate.weight": "feed_forward.gate.weight",
}
SCALES = re.compile(r"\.weight_scale(_inv)?\Z")
"""How compressed-tensors and transformers end the name of what NAME.weight is multiplied by; both mean w = q * scale."""

LAYER = re.compile(r"model\.layers\.(\d{1,4})\.(.+)")
EXPERT = re.compile(r"block_sparse_moe\.experts\.(\d{1,4})\.(w[123])\.weight")


@dataclass(frozen=True, slots=True)
class Origin:
    """How a native tensor is made from a stored one: take rows [begin, end) of `[expert]`, then reorder `heads`.

    Attributes:
        stored: name in the file.
        expert: index of the first dimension, or None for a tensor that is not stacked.
        rows: which rows of what remains, or None for all.
        heads: number of heads whose rows are reordered, or 0.
    """

    stored: str
    expert: int | None = None
    rows: tuple[int, int] | None = None
    heads: int = 0

    def take(self, tensor: Tensor, part: Part | None = None) -> Tensor:
        """Apply to the stored tensor; a view unless rows are reordered.

        Args:
            part: of the native tensor, whole heads where rows are reordered; nothing else of it is read.
        """
        if self.expert is not None:
            tensor = tensor[self.expert]
        if self.rows is not None:
            tensor = tensor[slice(*self.rows)]
        head_rows = tensor.shape[0] // self.heads if self.heads else 0
        if part is not None:
            assert not head_rows or (part.dim == ROWS and part.start % head_rows == part.length % head_rows == 0)
            tensor = tensor.narrow(part.dim, part.start, part.length)
        if self.heads:
            rows, columns = tensor.shape
            tensor = tensor.view(-1, 2, head_rows // 2, columns).transpose(1, 2).reshape(rows, columns)
        return tensor

    def shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of what `take` returns."""
        shape = stored if self.expert is None else stored[1:]
        return shape if self.rows is None else (self.rows[1] - self.rows[0], *shape[1:])


def native_origins(tensors: Iterable[StoredTensor], args: TransformerArgs) -> dict[str, Origin]:
    """Map every stored tensor of a Hugging Face checkpoint to native names.

    A name that is not known stays as it is, so that the comparison with the model reports it.

    Raises:
        WeightsError: two stored tensors are the same native one, or one cannot be taken apart.
        UnsupportedCheckpointError: rows that share a scale would part when heads are reordered.
    """
    if args.quantization is not None and args.quantization.qscheme_weight == "BLOCK" and SCALE_BLOCK % args.head_dim:
        raise UnsupportedCheckpointError(
            f"quantization_config: scales of {SCALE_BLOCK} rows divide heads of {args.head_dim}, whose rows stand in another "
            "order in Hugging Face's files; such heads are supported in native ones only"
        )
    origins: dict[str, Origin] = {}
    for tensor in tensors:
        for native, origin in _origins(tensor, args).items():
            if native in origins:
                raise WeightsError(f"{tensor.file}: {origins[native].stored} and {tensor.name} are both {native}")
            origins[native] = origin
    return origins


def native_scales(name: str) -> str:
    """layers.0.attention.wq.weight_scale -> layers.0.attention.wq.qscale_weight; other names stay."""
    return SCALES.sub(STORED_SCALES, name)


def _origins(tensor: StoredTensor, args: TransformerArgs) -> dict[str, Origin]:
    if tensor.name in TOP:
        return {TOP[tensor.name]: Origin(tensor.name)}
    match = LAYER.fullmatch(tensor.name)
    if match is None:
        return {tensor.name: Origin(tensor.name)}
    prefix, rest = f"layers.{match[1]}", match[2]
    if rest == "self_attn.rotary_emb.inv_freq":  # computed from theta; older versions stored it
        return {}
    if rest in ("mlp.experts.gate_up_proj", "mlp.experts.down_proj"):
        return _stacked_experts(tensor, f"{prefix}.feed_forward", fused=rest.endswith("gate_up_proj"))
    end = STORED_SCALES if SCALES.search(rest) else ".weight"
    rest = SCALES.sub(".weight", rest)
    if expert := EXPERT.fullmatch(rest):
        return {f"{prefix}.feed_forward.experts.{expert[1]}.{expert[2]}{end}": Origin(tensor.name)}
    if rest not in IN_LAYER:
        return {tensor.name: Origin(tensor.name)}
    heads = {"self_attn.q_proj.weight": args.n_heads, "self_attn.k_proj.weight": args.n_kv_heads}.get(rest, 0)
    has_all_rows = len(tensor.shape) == 2 and tensor.shape[0] == heads * args.head_dim
    if end == STORED_SCALES:
        # A scale of a matrix or of a block belongs to whole heads, and does not mind their order.
        return {
            f"{prefix}.{IN_LAYER[rest].removesuffix('.weight')}{end}": Origin(tensor.name, heads=heads * has_all_rows)
        }
    if heads and not has_all_rows:
        expected = f"({heads * args.head_dim}, {args.dim})"
        raise WeightsError(f"tensor {tensor.name}: expected {expected}, found {tensor.shape} in {tensor.file}")
    return {f"{prefix}.{IN_LAYER[rest]}": Origin(tensor.name, heads=heads)}


def _stacked_experts(tensor: StoredTensor, prefix: str, *, fused: bool) -> dict[str, Origin]:
    """gate_up_proj is [experts, 2 * hidden, dim], gate (w1) above up (w3); down_proj (w2) is [experts, dim, hidden]."""
    if len(tensor.shape) != 3 or tensor.shape[0] > 4096 or (fused and tensor.shape[1] % 2):
        raise WeightsError(f"tensor {tensor.name}: expected [experts, out, in], found {tensor.shape} in {tensor.file}")
    half = tensor.shape[1] // 2
    result = {}
    for expert in range(tensor.shape[0]):
        name = f"{prefix}.experts.{expert}"
        if fused:
            result[f"{name}.w1.weight"] = Origin(tensor.name, expert, (0, half))
            result[f"{name}.w3.weight"] = Origin(tensor.name, expert, (half, 2 * half))
        else:
            result[f"{name}.w2.weight"] = Origin(tensor.name, expert)
    return result
