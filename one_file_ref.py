"""A Mistral model in one file: the slow, plain computation that mistral_local is held to.

    python -m one_file_ref DIR [--max_tokens 35] [--device cpu]

Reads a checkpoint folder as published (params.json, consolidated*.safetensors, tokenizer), continues three
prompts greedily and prints them.  There is no KV cache, no batching and no kernel: every new token recomputes
the whole sequence, so that each line can be checked against the papers.  It needs torch, safetensors and
mistral_common, and imports nothing of mistral_local.

Dense: "Mistral 7B" (arXiv:2310.06825).  Mixture of experts: "Mixtral of Experts" (arXiv:2401.04088).

Shapes: B sequences of T tokens; D dim; H query heads and K key/value heads of size d; E experts.
"""

import argparse
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

PROMPTS = [
    "This is a test",
    "This is another great test",
    "This is a third test, mistral AI is very good at testing. ",
]


@dataclass(frozen=True)
class MoeArgs:
    """Mixture-of-experts fields of params.json."""

    num_experts: int
    num_experts_per_tok: int


@dataclass(frozen=True)
class ModelArgs:
    """The fields of params.json that decide the computation."""

    dim: int
    n_layers: int
    head_dim: int
    hidden_dim: int
    n_heads: int
    n_kv_heads: int
    norm_eps: float
    vocab_size: int
    rope_theta: float | None = None
    sliding_window: int | list[int | None] | None = None
    moe: MoeArgs | None = None
    tied_embeddings: bool = False

    @classmethod
    def from_folder(cls, folder: Path) -> "ModelArgs":
        """Read params.json; fields that are not named above must not change the computation."""
        params: dict[str, Any] = json.loads((folder / "params.json").read_text(encoding="utf-8"))
        for key in ("vision_encoder", "multimodal", "yarn", "llama_4_scaling", "quantization", "q_lora_rank"):
            if params.get(key):
                raise SystemExit(f"Error: one_file_ref does not implement {key!r} of {folder / 'params.json'}")
        params.setdefault("sliding_window", params.get("_sliding_window"))
        if isinstance(params["sliding_window"], str):
            params["sliding_window"] = json.loads(params["sliding_window"])
        if params.get("moe"):
            params["moe"] = MoeArgs(**{f.name: params["moe"][f.name] for f in fields(MoeArgs)})
        names = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in params.items() if key in names})

    def window(self, layer: int) -> int | None:
        """How many keys a query of this layer sees, itself included; None means all.  A list is a repeating pattern."""
        if isinstance(self.sliding_window, list):
            return self.sliding_window[layer % len(self.sliding_window)]
        return self.sliding_window

    @property
    def theta(self) -> float:
        """Base of the rotary frequencies; absent, it is 1e4 beside an int window (7B v0.1) and 1e6 otherwise."""
        if self.rope_theta is not None:
            return self.rope_theta
        return 1e4 if isinstance(self.sliding_window, int) else 1e6


def rotary(x: Tensor, theta: float) -> Tensor:
    """Rotate each pair (2i, 2i + 1) of a head by position * theta^(-2i/d), in fp32 (arXiv:2104.09864, section 3.4).

    Args:
        x: [B, T, heads, d]; position is the index along T.
    """
    T, d = x.shape[1], x.shape[-1]
    frequencies = theta ** (-torch.arange(0, d, 2, device=x.device, dtype=torch.float32) / d)  # [d/2]
    angles = torch.outer(torch.arange(T, device=x.device, dtype=torch.float32), frequencies)  # [T, d/2]
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]  # [T, 1, d/2]
    even, odd = x.float()[..., 0::2], x.float()[..., 1::2]
    rotated = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)  # [B, T, heads, d/2, 2]
    return rotated.flatten(-2).to(x.dtype)


def causal_mask(num_tokens: int, window: int | None, device: torch.device) -> Tensor:
    """[T, T] bool: query i sees key j when j <= i and, under a window W, j > i - W."""
    i = torch.arange(num_tokens, device=device)
    mask = i[:, None] >= i[None, :]
    return mask if window is None else mask & (i[:, None] - i[None, :] < window)


class RMSNorm(nn.Module):
    """Divide by the root mean square in fp32, cast back, then scale (arXiv:1910.07467)."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        normed = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps)
        return normed.to(x.dtype) * self.weight


class Attention(nn.Module):
    """Grouped-query attention (arXiv:2305.13245): query head h reads key/value head h // (H / K)."""

    def __init__(self, args: ModelArgs, layer: int) -> None:
        super().__init__()
        self.args, self.window = args, args.window(layer)
        self.wq = nn.Linear(args.dim, args.n_heads * args.head_dim, bias=False)
        self.wk = nn.Linear(args.dim, args.n_kv_heads * args.head_dim, bias=False)
        self.wv = nn.Linear(args.dim, args.n_kv_heads * args.head_dim, bias=False)
        self.wo = nn.Linear(args.n_heads * args.head_dim, args.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        B, T, _ = x.shape
        a = self.args
        q = rotary(self.wq(x).view(B, T, a.n_heads, a.head_dim), a.theta)
        k = rotary(self.wk(x).view(B, T, a.n_kv_heads, a.head_dim), a.theta)
        v = self.wv(x).view(B, T, a.n_kv_heads, a.head_dim)
        k, v = (t.repeat_interleave(a.n_heads // a.n_kv_heads, dim=2) for t in (k, v))  # [B, T, H, d]
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # [B, H, T, d]
        # softmax(q k^T / sqrt(d)) v over the visible keys
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=causal_mask(T, self.window, x.device))
        return self.wo(mixed.transpose(1, 2).reshape(B, T, a.n_heads * a.head_dim))


class FeedForward(nn.Module):
    """SwiGLU (arXiv:2002.05202): w2(silu(w1 x) * w3 x)."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.w1 = nn.Linear(args.dim, args.hidden_dim, bias=False)
        self.w2 = nn.Linear(args.hidden_dim, args.dim, bias=False)
        self.w3 = nn.Linear(args.dim, args.hidden_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class MoeFeedForward(nn.Module):
    """Each token goes to its top-k experts, weighted by the softmax over those k logits (arXiv:2401.04088, 2.1)."""

    def __init__(self, args: ModelArgs, moe: MoeArgs) -> None:
        super().__init__()
        self.k = moe.num_experts_per_tok
        self.gate = nn.Linear(args.dim, moe.num_experts, bias=False)
        self.experts = nn.ModuleList([FeedForward(args) for _ in range(moe.num_experts)])

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])  # [B * T, D]
        top, chosen = torch.topk(self.gate(flat), self.k)  # [B * T, k]
        weights = torch.softmax(top.float(), dim=-1).to(x.dtype)
        out = torch.zeros_like(flat)
        for e, expert in enumerate(self.experts):
            token, slot = torch.where(chosen == e)
            out.index_add_(0, token, weights[token, slot, None] * expert(flat[token]))
        return out.view_as(x)


class Block(nn.Module):
    """Pre-norm residual block."""

    def __init__(self, args: ModelArgs, layer: int) -> None:
        super().__init__()
        self.attention = Attention(args, layer)
        self.attention_norm = RMSNorm(args.dim, args.norm_eps)
        self.feed_forward = MoeFeedForward(args, args.moe) if args.moe else FeedForward(args)
        self.ffn_norm = RMSNorm(args.dim, args.norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


class Transformer(nn.Module):
    """The decoder; module names are the tensor names of the checkpoint."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.args = args
        self.tok_embeddings = nn.Embedding(args.vocab_size, args.dim)
        self.layers = nn.ModuleList([Block(args, layer) for layer in range(args.n_layers)])
        self.norm = RMSNorm(args.dim, args.norm_eps)
        self.output = None if args.tied_embeddings else nn.Linear(args.dim, args.vocab_size, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T] token ids -> [B, T, vocab] fp32 logits."""
        x = self.tok_embeddings(tokens)
        for layer in self.layers:
            x = layer(x)
        output = self.tok_embeddings.weight if self.output is None else self.output.weight
        return F.linear(self.norm(x), output).float()

    @staticmethod
    def from_folder(folder: Path, device: str = "cpu", dtype: torch.dtype | None = None) -> "Transformer":
        """Load consolidated.safetensors or its shards, in the dtype they are stored in unless told."""
        files = sorted(folder.glob("consolidated*.safetensors"))
        if not files:
            raise SystemExit(f"Error: no consolidated*.safetensors in {folder}")
        state: dict[str, Tensor] = {}
        for file in files:
            with safe_open(file, framework="pt", device=device) as opened:
                state |= {name: opened.get_tensor(name).to(dtype) for name in opened.keys()}  # noqa: SIM118
        with torch.device("meta"):
            model = Transformer(ModelArgs.from_folder(folder))
        model.load_state_dict(state, assign=True)
        return model.eval()


@torch.inference_mode()
def generate(
    model: Transformer, prompt: list[int], *, max_tokens: int, eos_id: int | None = None
) -> tuple[list[int], list[float]]:
    """Continue one prompt greedily by recomputing everything for each token.

    Returns:
        The new token ids (without the EOS that ended them), and the log-probability of each prompt token from the
        second on followed by that of each new token.
    """
    tokens = list(prompt)
    device = model.tok_embeddings.weight.device
    while len(tokens) < len(prompt) + max_tokens:
        next_token = int(model(torch.tensor([tokens], device=device))[0, -1].argmax())
        if next_token == eos_id:
            break
        tokens.append(next_token)
    logprobs = torch.log_softmax(model(torch.tensor([tokens], device=device))[0], dim=-1)  # [T, vocab]
    following = torch.tensor(tokens[1:], device=device, dtype=torch.long)
    return tokens[len(prompt) :], logprobs[:-1].gather(1, following[:, None])[:, 0].tolist()


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer: tekken.json, else the highest tokenizer.model.vN, else tokenizer.model."""
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    def version(file: Path) -> int:
        digits = file.suffix[2:].split("m")[0]
        return int(digits) if digits.isdigit() else 0

    candidates = [folder / "tekken.json", *sorted(folder.glob("tokenizer.model*"), key=version, reverse=True)]
    for file in candidates:
        if file.exists():
            return MistralTokenizer.from_file(str(file)).instruct_tokenizer.tokenizer
    raise SystemExit(f"Error: no tekken.json or tokenizer.model* in {folder}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="one_file_ref", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="checkpoint folder")
    parser.add_argument("--max_tokens", type=int, default=35, help="new tokens per prompt (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    options = parser.parse_args()
    tokenizer = load_tokenizer(options.folder)
    model = Transformer.from_folder(options.folder, device=options.device)
    for prompt in PROMPTS:
        encoded = tokenizer.encode(prompt, bos=True, eos=False)
        new, _ = generate(model, encoded, max_tokens=options.max_tokens, eos_id=tokenizer.eos_id)
        print(tokenizer.decode(encoded + new))
        print("=====================")


if __name__ == "__main__":
    main()
