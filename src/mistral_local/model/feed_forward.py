"""The dense feed-forward layer."""

from torch import Tensor, nn

from mistral_local.args import TransformerArgs
from mistral_local.kernels.rms_norm import Normed
from mistral_local.model.joined import join
from mistral_local.model.linear import Linear, gated_linears


class FeedForward(nn.Module):
    """SwiGLU (arXiv:2002.05202): w2(silu(w1 x) * w3 x); w1 is the gate, w3 the up projection."""

    def __init__(self, args: TransformerArgs) -> None:
        super().__init__()
        self.w1 = Linear(args.dim, args.hidden_dim)
        self.w2 = Linear(args.hidden_dim, args.dim)
        self.w3 = Linear(args.dim, args.hidden_dim)

    def forward(self, x: Tensor | Normed, is_token: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
        """[T, dim] -> [T, dim], added to `residual` if it is given.

        Nothing is wanted of rows that are no tokens, and they cost nothing here.
        """
        return self.w2(gated_linears(x, self.w1, self.w3), residual)

    def join_matrices(self) -> None:
        """Let w1 and w3 be one product."""
        if self.w1.quantized is None:
            join([self.w1, self.w3])
