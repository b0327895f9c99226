"""A linear layer without bias."""

from torch import Tensor, nn

from mistral_local.kernels.packed_linear import LinearProduct


class Linear(nn.Linear):
    """x times the transpose of `weight` [out, in]."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)
        self.product = LinearProduct()

    def forward(self, x: Tensor) -> Tensor:
        """[T, in] -> [T, out]."""
        return self.product(x, self.weight)
