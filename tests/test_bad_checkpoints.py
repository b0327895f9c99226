"""Checkpoints that nobody should load: each is refused in one line that names the file and the tensor."""

import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import DEFAULTS, make_params, random_weights, tensor_shapes, write_checkpoint
from safetensors.torch import save_file
from test_weights_load import SlotModel

from mistral_local.args import MoeArgs, TransformerArgs
from mistral_local.errors import CheckpointError, MistralLocalError, OutOfMemoryError, WeightsError
from mistral_local.weights import load, load_weights, open_checkpoint
from mistral_local.weights.safetensors_file import SafetensorsFile

Header = dict[str, Any]
WEIGHTS = "consolidated.safetensors"


def try_to_load(folder: Path, dtype: torch.dtype | None = None) -> SlotModel:
    args = TransformerArgs.from_folder(folder)
    params = json.loads((folder / "params.json").read_text())
    model = SlotModel({name: torch.empty(shape, device="meta") for name, shape in tensor_shapes(params).items()})
    with open_checkpoint(folder, args) as checkpoint:
        load_weights(model, checkpoint, device="cpu", dtype=dtype)
    return model


def refusal(folder: Path, kind: type[MistralLocalError] = WeightsError) -> str:
    """The message with which the folder is refused, its path written as DIR."""
    with pytest.raises(kind) as caught:
        try_to_load(folder)
    assert type(caught.value) is kind
    message = str(caught.value).replace(str(folder), "DIR")
    assert "\n" not in message
    assert len(message) < 1000
    return message


def split(file: Path) -> tuple[Header, bytes]:
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def join(file: Path, header: Header | bytes, body: bytes) -> None:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(len(encoded).to_bytes(8, "little") + encoded + body)


def test_a_truncated_file_names_the_first_tensor_that_is_cut(tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path) / WEIGHTS
    size = file.stat().st_size
    os.truncate(file, size - 10)
    last = list(split(file)[0])[-1]
    assert refusal(tmp_path) == (
        f"DIR/{WEIGHTS}: tensor {last}: ends at byte {size}, but the file has {size - 10}; is it truncated?"
    )


@pytest.mark.parametrize("size", [0, 7, 8, 100])
def test_a_file_cut_inside_its_header_is_refused(tmp_path: Path, size: int) -> None:
    os.truncate(write_checkpoint(tmp_path) / WEIGHTS, size)
    assert refusal(tmp_path).startswith(f"DIR/{WEIGHTS}: not a whole safetensors file: it has {size} bytes")


def test_a_header_longer_than_the_file_or_the_limit_is_refused_unread(tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path) / WEIGHTS
    for length in (file.stat().st_size, 2**63, 100_000_001):
        file.write_bytes(length.to_bytes(8, "little") + file.read_bytes()[8:])
        assert f"says that its header has {length} (at most 100000000)" in refusal(tmp_path)


def overlap(header: Header) -> None:
    header["norm.weight"]["data_offsets"] = header["layers.0.ffn_norm.weight"]["data_offsets"]


def gap(header: Header) -> None:
    del header["norm.weight"]


def outside(header: Header) -> None:
    begin, end = header["norm.weight"]["data_offsets"]
    header["norm.weight"]["data_offsets"] = [begin + 10**9, end + 10**9]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (overlap, r"tensor (norm|layers\.0\.ffn_norm)\.weight: begins at byte \d+, overlaps the tensor before it"),
        (
            gap,
            r"(tensor .+: begins at byte \d+, leaves a gap before it|128 bytes after the last tensor belong to none)",
        ),
        (outside, r"tensor .+: begins at byte \d+, leaves a gap before it"),
        (
            lambda h: h["norm.weight"].update(shape=[31]),
            "tensor norm.weight: expected 124 bytes for F32 .31., found 128.*",
        ),
        (
            lambda h: h["norm.weight"].update(dtype="F16"),
            "tensor norm.weight: expected 64 bytes for F16 .32., found 128.*",
        ),
        (lambda h: h["norm.weight"].update(dtype="Q9"), "tensor norm.weight: unknown dtype Q9"),
        (lambda h: h["norm.weight"].update(dtype=["F32"]), "tensor norm.weight: unknown dtype .*"),
        (lambda h: h["norm.weight"].update(shape=[-32]), "tensor norm.weight: shape .-32. is not a list of sizes"),
        (lambda h: h["norm.weight"].update(shape=[True]), "tensor norm.weight: shape .True. is not a list of sizes"),
        (lambda h: h["norm.weight"].update(shape=[2**62, 4]), "tensor norm.weight: shape .* is not a list of sizes"),
        (lambda h: h["norm.weight"].update(shape=[2**40, 2**40]), "tensor norm.weight: expected .* found 128.*"),
        (lambda h: h["norm.weight"].update(shape="32"), "tensor norm.weight: shape 32 is not a list of sizes"),
        (lambda h: h["norm.weight"].update(data_offsets=[8, 0]), "tensor norm.weight: data_offsets .8, 0. are not .*"),
        (lambda h: h["norm.weight"].update(data_offsets=[0]), "tensor norm.weight: data_offsets .0. are not .*"),
        (lambda h: h["norm.weight"].pop("dtype"), "tensor norm.weight: expected dtype, shape and data_offsets"),
        (lambda h: h.update({"norm.weight": 3}), "tensor norm.weight: expected dtype, shape and data_offsets"),
        (lambda h: h.update(__metadata__={"a": 1}), "__metadata__ is not a map of strings"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(
    tmp_path: Path, change: Callable[[Header], None], message: str
) -> None:
    file = write_checkpoint(tmp_path) / WEIGHTS
    header, body = split(file)
    change(header)
    join(file, header, body)
    assert re.fullmatch(rf"DIR/{WEIGHTS}: {message}", refusal(tmp_path))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{", "not valid JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        (b"[]", "expected a JSON object, found []"),
        (b'{"a": 1, "a": 2}', 'the key "a" appears twice'),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a\\nb": 1}', r'the key "a\nb" is not printable'),
    ],
)
def test_a_header_that_is_not_json_is_refused(tmp_path: Path, header: bytes, message: str) -> None:
    file = write_checkpoint(tmp_path) / WEIGHTS
    join(file, header, split(file)[1])
    assert refusal(tmp_path) == f"DIR/{WEIGHTS} header: {message}"


def test_a_header_nested_too_deep_is_refused(tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path) / WEIGHTS
    join(file, b'{"a": ' + b"[" * 100_000, split(file)[1])
    assert refusal(tmp_path).startswith(f"DIR/{WEIGHTS} header: not valid JSON (")


def test_missing_unexpected_and_misshapen_tensors_are_all_named_before_any_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path)
    weights = random_weights(DEFAULTS)
    del weights["norm.weight"], weights["output.weight"]
    weights["bonus.weight"] = torch.zeros(2)
    weights["layers.1.attention.wk.weight"] = torch.zeros(8, 32)
    weights["layers.0.ffn_norm.weight"] = torch.zeros(32, dtype=torch.int8)
    save_file(weights, tmp_path / WEIGHTS)
    monkeypatch.setattr(SafetensorsFile, "read", lambda *_: pytest.fail("a tensor was read"))
    assert refusal(tmp_path) == (
        "DIR: the tensors do not fit the model: missing norm.weight, output.weight; unexpected bonus.weight; "
        "wrong shape layers.1.attention.wk.weight (expected (16, 32), found (8, 32)); "
        "a type that cannot be loaded layers.0.ffn_norm.weight (I8)"
    )


def test_of_many_wrong_tensors_five_are_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    save_file(random_weights(make_params(n_layers=1)), tmp_path / WEIGHTS)
    assert re.fullmatch(
        r"DIR: the tensors do not fit the model: missing (layers\.1\.[\w.]+, ){4}layers\.1\.[\w.]+ and 4 more",
        refusal(tmp_path),
    )


def test_an_output_that_is_absent_and_not_said_to_be_tied_gets_a_hint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, tied=True)
    (tmp_path / "params.json").write_text(json.dumps(DEFAULTS))
    assert refusal(tmp_path) == (
        'DIR: the tensors do not fit the model: missing output.weight; does params.json lack "tied_embeddings": true?'
    )


def test_params_that_describe_another_model_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, moe=MoeArgs(4, 2))
    (tmp_path / "params.json").write_text(json.dumps(make_params(moe=MoeArgs(8, 2))))
    assert "layers.0.feed_forward.gate.weight (expected (8, 32), found (4, 32))" in refusal(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8])
def test_quantized_weights_are_refused_by_type(tmp_path: Path, dtype: torch.dtype) -> None:
    write_checkpoint(tmp_path)
    weights = {name: tensor.to(dtype) for name, tensor in random_weights(DEFAULTS).items()}
    save_file(weights, tmp_path / WEIGHTS)
    assert "a type that cannot be loaded tok_embeddings.weight (" in refusal(tmp_path)


def test_a_missing_shard_is_named_with_and_without_an_index(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, shards=3)
    (tmp_path / "consolidated-00002-of-00003.safetensors").unlink()
    index = tmp_path / f"{WEIGHTS}.index.json"
    assert refusal(tmp_path) == f"DIR/{index.name}: shard consolidated-00002-of-00003.safetensors is missing"
    index.unlink()
    assert refusal(tmp_path) == "DIR: shard consolidated-00002-of-00003.safetensors is missing (1 of 3 are)"


def test_shards_of_two_numberings_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, shards=2, index=False)
    write_checkpoint(tmp_path, shards=3, index=False)
    assert "expected shards of one numbering, found consolidated-00001-of-00002.safetensors, " in refusal(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, shards=2, index=False)
    save_file(random_weights(DEFAULTS), tmp_path / "consolidated-00002-of-00002.safetensors")
    assert re.fullmatch(
        r"DIR/consolidated-00002-of-00002\.safetensors: tensor \S+ is also in consolidated-00001-of-00002\.safetensors",
        refusal(tmp_path),
    )


@pytest.mark.parametrize("target", ["../outside.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", 3, "x\\y"])
def test_an_index_that_points_outside_the_folder_is_refused(tmp_path: Path, target: object) -> None:
    folder = write_checkpoint(tmp_path / "inside", shards=2)
    save_file(random_weights(DEFAULTS), tmp_path / "outside.safetensors")
    index = folder / f"{WEIGHTS}.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["norm.weight"] = target
    index.write_text(json.dumps(content))
    assert refusal(folder) == (
        f"DIR/{index.name}: tensor norm.weight: expected the name of a shard beside it, found {target!r}"
    )


def test_an_index_that_contradicts_its_shards_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, shards=2)
    index = tmp_path / f"{WEIGHTS}.index.json"
    content = json.loads(index.read_text())
    first = "consolidated-00001-of-00002.safetensors"
    for weight_map, message in (
        (content["weight_map"] | {"norm.weight": first}, f"DIR/{first}: tensor norm.weight is not there, though"),
        (content["weight_map"] | {"ghost": first}, f"DIR/{first}: tensor ghost is not there, though the index says so"),
        ({"norm.weight": content["weight_map"]["norm.weight"]}, "is not in the index"),
        ({}, f"DIR/{index.name}: expected a weight_map from tensors to files"),
        (None, f"DIR/{index.name}: expected a weight_map from tensors to files"),
    ):
        index.write_text(json.dumps({"weight_map": weight_map}))
        assert message in refusal(tmp_path)


def test_a_folder_without_weights_says_what_it_holds(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / WEIGHTS).rename(tmp_path / "pytorch_model.bin")
    assert refusal(tmp_path) == (
        "DIR: expected consolidated.safetensors, its shards, consolidated.00.pth or model.safetensors, "
        "found params.json, pytorch_model.bin"
    )
    with pytest.raises(CheckpointError, match="no such folder"):
        try_to_load(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="not a folder"):
        try_to_load(tmp_path / "params.json")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    (tmp_path / WEIGHTS).mkdir()
    assert refusal(tmp_path) == f"DIR/{WEIGHTS}: cannot be read (Is a directory)"


class Payload:
    """Unpickled, it would create a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_payload_in_a_pth_file_never_runs(tmp_path: Path, zipped: bool) -> None:
    folder = write_checkpoint(tmp_path / "model", pth=True)
    content = random_weights(DEFAULTS) | {"payload": Payload(tmp_path / "ran")}
    torch.save(content, folder / "consolidated.00.pth", _use_new_zipfile_serialization=zipped)
    reason = refusal(folder)
    assert reason.startswith("DIR/consolidated.00.pth: ")
    assert not zipped or "refused, it holds something else than tensors, which could run code" in reason
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a dictionary of tensors, found list"),
        ({"norm.weight": 3}, "expected tensors by name, found 'norm.weight': int"),
        ({3: torch.zeros(1)}, "expected tensors by name, found 3: Tensor"),
        (
            {"norm.weight": torch.zeros(32).to_sparse()},
            "tensor norm.weight: expected a dense tensor, found torch.sparse_coo",
        ),
    ],
)
def test_a_pth_file_of_something_else_is_refused(tmp_path: Path, content: object, message: str) -> None:
    write_checkpoint(tmp_path, pth=True)
    torch.save(content, tmp_path / "consolidated.00.pth")
    assert refusal(tmp_path) == f"DIR/consolidated.00.pth: {message}"


def test_a_damaged_pth_file_is_refused(tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path, pth=True) / "consolidated.00.pth"
    whole = file.read_bytes()
    for content in (b"", b"junk", whole[: len(whole) // 2], whole[:-30]):
        file.write_bytes(content)
        assert refusal(tmp_path).startswith("DIR/consolidated.00.pth: ")


def test_several_pth_files_are_not_supported(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, pth=True)
    (tmp_path / "consolidated.01.pth").touch()
    with pytest.raises(
        CheckpointError, match=r"consolidated\.01\.pth: weights split over several \.pth are not supported"
    ):
        try_to_load(tmp_path)


def test_too_little_memory_is_said_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path, moe=MoeArgs(4, 2))
    monkeypatch.setattr(load, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(SafetensorsFile, "read", lambda *_: pytest.fail("a tensor was read"))
    with pytest.raises(OutOfMemoryError, match=r"the weights need 0\.\d MB on cpu, 0\.0 MB are free$"):
        try_to_load(tmp_path, torch.bfloat16)


def test_an_allocation_that_fails_half_way_says_what_was_needed(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, moe=MoeArgs(4, 2))
    model = SlotModel(random_weights(make_params(moe=MoeArgs(4, 2))))

    def fail(done: int, total: int, nbytes: int) -> None:
        if done == total // 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")

    with (
        open_checkpoint(folder, TransformerArgs.from_folder(folder)) as checkpoint,
        pytest.raises(OutOfMemoryError, match=r"the weights need 0\.\d MB on cpu, which could not be allocated$"),
    ):
        load_weights(model, checkpoint, device="cpu", dtype=torch.bfloat16, progress=fail)
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("part", ["header", "index", "params"])
def test_random_damage_raises_only_our_own_errors(tmp_path: Path, part: str) -> None:
    generator = random.Random(0)
    write_checkpoint(tmp_path, n_layers=1, shards=2 if part == "index" else 1)
    file = tmp_path / {"header": WEIGHTS, "index": f"{WEIGHTS}.index.json", "params": "params.json"}[part]
    whole = file.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little") if part == "header" else len(whole)
    messages = []
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(generator.randint(1, 4)):
            position = generator.randrange(end)
            if generator.random() < 0.5:
                damaged[position] = generator.choice(b'0123456789-{}[]",:.eE\\ nt\x00\xff')
            else:
                damaged[position] ^= 1 << generator.randrange(8)
        file.write_bytes(bytes(damaged))
        try:
            try_to_load_any(tmp_path)
        except MistralLocalError as error:
            messages.append(str(error))
    assert len(messages) > 200
    assert not any("\n" in message for message in messages)


def try_to_load_any(folder: Path) -> None:
    """Load into the model of the undamaged params.json, whatever the damaged one says."""
    args = TransformerArgs.from_folder(folder)
    with open_checkpoint(folder, args) as checkpoint:
        load_weights(SlotModel(random_weights(make_params(n_layers=1))), checkpoint, device="cpu")
