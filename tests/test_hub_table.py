"""The table of archives agrees with the shapes and with what was published."""

import pytest
from checkpoints import make_params, tensor_shapes

from mistral_local.args import MoeArgs
from mistral_local.hub.table import published_archives

ARCHIVES = published_archives()
SHAPES = {  # name -> (dim, n_layers, hidden_dim, n_heads, vocab_size, experts)
    "7B-Instruct-v0.3": (4096, 32, 14336, 32, 32768, None),
    "7B-v0.3": (4096, 32, 14336, 32, 32768, None),
    "Mathstral-7B-v0.1": (4096, 32, 14336, 32, 32768, None),
    "8x7B-Instruct-v0.1": (4096, 32, 14336, 32, 32000, 8),
    "8x22B-Instruct-v0.3": (6144, 56, 16384, 48, 32768, 8),
    "8x22B-v0.3": (6144, 56, 16384, 48, 32768, 8),
    "Codestral-22B-v0.1": (6144, 56, 16384, 48, 32768, None),
    "Nemo-Base-2407": (5120, 40, 14336, 32, 131072, None),
    "Nemo-Instruct-2407": (5120, 40, 14336, 32, 131072, None),
    "Large-Instruct-2407": (12288, 88, 28672, 96, 32768, None),
}


@pytest.mark.parametrize("name", SHAPES)
def test_sizes_follow_from_the_published_shape(name):
    dim, n_layers, hidden_dim, n_heads, vocab_size, experts = SHAPES[name]
    params = make_params(
        dim=dim,
        n_layers=n_layers,
        hidden_dim=hidden_dim,
        n_heads=n_heads,
        n_kv_heads=8,
        head_dim=128,
        vocab_size=vocab_size,
        moe=MoeArgs(num_experts=experts, num_experts_per_tok=2) if experts else None,
    )
    count = 0
    for shape in tensor_shapes(params).values():
        size = 1
        for extent in shape:
            size *= extent
        count += size
    archive = ARCHIVES[name]
    assert archive.parameters == count
    assert archive.weight_bytes == 2 * count
    assert archive.kv_bytes == 2 * n_layers * 8 * 128 * 2
    assert archive.memory_bytes == 2 * count + 4096 * archive.kv_bytes


def test_every_row_is_sound():
    assert set(ARCHIVES) == {*SHAPES, "Codestral-Mamba-7B-v0.1"}
    for archive in ARCHIVES.values():
        assert archive.md5
        assert all(len(value) == 32 and int(value, 16) for value in archive.md5)
        assert all(len(value) == 64 and int(value, 16) for value in archive.sha256)
        assert archive.path.endswith(".tar")
        assert archive.kind in ("instruct", "base")
    assert len({archive.path for archive in ARCHIVES.values()}) == len(ARCHIVES)
    assert [name for name, archive in ARCHIVES.items() if archive.obstacle] == ["Codestral-Mamba-7B-v0.1"]
    assert [name for name, archive in ARCHIVES.items() if archive.licence_notice] == [
        "Codestral-22B-v0.1",
        "Large-Instruct-2407",
    ]
    assert len(ARCHIVES["Codestral-22B-v0.1"].md5) == 2
