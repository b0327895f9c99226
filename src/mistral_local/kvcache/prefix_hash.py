"""The content of full blocks, as hashes that also stand for everything before them."""

from array import array
from hashlib import blake2b

DIGEST_BYTES = 16


def block_hashes(tokens: list[int], block_size: int, *, root: bytes, known: list[bytes]) -> list[bytes]:
    """Hash every full block of a sequence: hash(hash of the block before, token ids).

    Two sequences share a hash only where they begin with the same tokens and the same root.

    Args:
        root: stands for what the keys depend on beside the tokens, such as the weights.
        known: hashes of the first blocks, from an earlier call with the same root.
    """
    hashes = list(known)
    for start in range(len(hashes) * block_size, len(tokens) - block_size + 1, block_size):
        content = array("q", tokens[start : start + block_size]).tobytes()
        parent = hashes[-1] if hashes else root
        hashes.append(blake2b(parent + content, digest_size=DIGEST_BYTES).digest())
    return hashes
