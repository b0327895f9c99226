"""The attention layer: projections and rotary embedding around a backend."""

from torch import Tensor, nn

from mistral_local.args import TransformerArgs
from mistral_local.attention.backend import AttentionBackend
from mistral_local.attention.batch import AttentionMetadata
from mistral_local.kernels.rms_norm import Normed
from mistral_local.kvcache.storage import LayerCache
from mistral_local.model.joined import join
from mistral_local.model.linear import Linear, linears


class Attention(nn.Module):
    """Grouped-query attention (arXiv:2305.13245); n_heads * head_dim need not equal dim."""

    def __init__(self, args: TransformerArgs, layer: int) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = args.n_heads, args.n_kv_heads, args.head_dim
        self.window = args.window(layer)
        self.wq = Linear(args.dim, args.n_heads * args.head_dim)
        self.wk = Linear(args.dim, args.n_kv_heads * args.head_dim)
        self.wv = Linear(args.dim, args.n_kv_heads * args.head_dim)
        self.wo = Linear(args.n_heads * args.head_dim, args.dim)

    def forward(
        self,
        x: Tensor | Normed,
        rotation: Tensor,
        *,
        backend: AttentionBackend,
        cache: LayerCache | None,
        metadata: AttentionMetadata,
        residual: Tensor | None = None,
    ) -> Tensor:
        """[T, dim] -> [T, dim], added to `residual` if it is given; new keys and values go to `cache`."""
        q, k, v = linears(x, self.wq, self.wk, self.wv)
        q = q.view(-1, self.n_heads, self.head_dim)
        k, v = (t.view(-1, self.n_kv_heads, self.head_dim) for t in (k, v))
        mixed = backend.rotate_and_attend(
            q, k, v, rotation, cache=cache, metadata=metadata, window=self.window
        )  # [T, n_heads, head_dim]
        return self.wo(mixed.reshape(-1, self.n_heads * self.head_dim), residual)

    def join_matrices(self) -> None:
        """Let wq, wk and wv be one product."""
        if self.wq.quantized is None:
            join([self.wq, self.wk, self.wv])
