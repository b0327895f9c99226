"""How many positions a published model was trained for, when its params.json does not say."""

from typing import NamedTuple

DEFAULT_CONTEXT = 32768


class Family(NamedTuple):
    """A published shape, and the context length published with it; None as theta matches any."""

    name: str
    dim: int
    n_layers: int
    hidden_dim: int
    num_experts: int  # 0 when dense
    theta: float | None
    context_length: int


# First match wins.  From the model pages of docs.mistral.ai (checked November 2026).  Magistral Small 1.0 and 1.1 have
# the shape of Small 3.1 and are recommended up to 40k; their params.json does not tell them apart.
FAMILIES = (
    Family("Mistral 7B v0.1", 4096, 32, 14336, 0, 1e4, 8192),
    Family("Mistral 7B v0.2 and v0.3", 4096, 32, 14336, 0, None, 32768),
    Family("Mixtral 8x7B", 4096, 32, 14336, 8, None, 32768),
    Family("Mixtral 8x22B", 6144, 56, 16384, 8, None, 65536),
    Family("Codestral 22B and Small 2", 6144, 56, 16384, 0, None, 32768),
    Family("Ministral 8B", 4096, 36, 12288, 0, None, 131072),
    Family("Mistral Nemo", 5120, 40, 14336, 0, None, 131072),
    Family("Mistral Small 3", 5120, 40, 32768, 0, 1e8, 32768),
    Family("Mistral Small 3.1 and later", 5120, 40, 32768, 0, 1e9, 131072),
    Family("Mistral Large 2", 12288, 88, 28672, 0, None, 131072),
)


def published_family(*, dim: int, n_layers: int, hidden_dim: int, num_experts: int, theta: float) -> Family | None:
    """The published family of this shape, if it is one."""
    shape = (dim, n_layers, hidden_dim, num_experts)
    return next((f for f in FAMILIES if f[1:5] == shape and f.theta in (None, theta)), None)
