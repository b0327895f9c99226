"""Notice that a tensor was changed or replaced."""

from torch import Tensor


class TensorWatch:
    """Remembers a tensor as it is now.

    It holds on to the tensor's memory, so that another tensor cannot come to lie at the same address unnoticed.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._alias = tensor.detach()
        self._version = _version(tensor)

    def sees(self, tensor: Tensor) -> bool:
        """Whether this is the remembered tensor, and nobody has written to it since."""
        return tensor.data_ptr() == self._alias.data_ptr() and _version(tensor) == self._version


def _version(tensor: Tensor) -> int:
    """How often it was written in place; torch does not count for inference tensors."""
    return 0 if tensor.is_inference() else tensor._version
