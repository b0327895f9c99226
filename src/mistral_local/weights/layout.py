"""Which files of a folder hold the weights."""

import re
from dataclasses import dataclass
from pathlib import Path

from mistral_local.args import read_object
from mistral_local.errors import UnsupportedCheckpointError, WeightsError

MAX_INDEX_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Layout:
    """The files to read.

    Attributes:
        files: in the order of their names.
        hugging_face: whether tensors have the names of transformers.
        index: tensor name -> file, when the folder says so; None otherwise.
        notes: one line for each thing that a user should know.
    """

    files: tuple[Path, ...]
    hugging_face: bool
    index: dict[str, Path] | None
    notes: tuple[str, ...]


def find_layout(folder: Path) -> Layout:
    """Choose the weight files: safetensors before .pth, one file before shards, native before Hugging Face.

    Raises:
        WeightsError: no weights, a missing shard, or an index that contradicts the folder.
    """
    native, hf = _safetensors(folder, "consolidated"), _safetensors(folder, "model")
    pth = sorted(folder.glob("consolidated.[0-9][0-9].pth"))
    choices = [choice for choice in (*native, *hf, pth) if choice]
    if not choices:
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) if folder.is_dir() else "no such folder"
        raise WeightsError(
            f"{folder}: expected consolidated.safetensors, its shards, consolidated.00.pth or model.safetensors, "
            f"found {found or 'nothing'}"
        )
    chosen, others = choices[0], choices[1:]
    if chosen is pth and len(pth) > 1:
        raise UnsupportedCheckpointError(f"{folder}: {pth[1].name}: weights split over several .pth are not supported")
    notes = tuple(f"{chosen[0].name} is read; {other[0].name} in the same folder is not" for other in others)
    stem = chosen[0].name.split(".")[0].split("-")[0]
    sharded = chosen[0].name != f"{stem}.safetensors" and chosen is not pth
    index = _read_index(folder / f"{stem}.safetensors.index.json") if sharded else None
    files = sorted(set(index.values())) if index is not None else chosen
    if sharded and index is None:
        _check_all_shards(folder, stem, [file.name for file in chosen])
    return Layout(tuple(files), stem == "model", index, notes)


def _safetensors(folder: Path, stem: str) -> tuple[list[Path], list[Path]]:
    """The single file if there is one; the shards if there are any, or the index that says where they should be."""
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    shards = sorted(folder.glob(f"{stem}-*-of-*.safetensors"))
    if not shards and index.exists():
        shards = [index]
    return [single] if single.exists() else [], shards


def _check_all_shards(folder: Path, stem: str, names: list[str]) -> None:
    """Without an index, the names must be 1 .. M of one M."""
    pattern = re.compile(rf"{stem}-(\d+)-of-(\d+)\.safetensors")
    matches = [pattern.fullmatch(name) for name in names]
    odd = [name for name, match in zip(names, matches, strict=True) if match is None]
    totals = {match[2] for match in matches if match}
    if odd or len(totals) != 1:
        raise WeightsError(
            f"{folder}: {(odd or names)[0]}: expected shards of one numbering, found {', '.join(names[:6])}"
        )
    total = totals.pop()
    if int(total) > 100_000:
        raise WeightsError(f"{folder}: {names[0]}: {total} shards cannot be")
    expected = [f"{stem}-{number:0{len(total)}d}-of-{total}.safetensors" for number in range(1, int(total) + 1)]
    if missing := [name for name in expected if name not in names]:
        raise WeightsError(f"{folder}: shard {missing[0]} is missing ({len(missing)} of {len(expected)} are)")
    if len(names) > len(expected):
        raise WeightsError(f"{folder}: expected {len(expected)} shards, found {len(names)}: {', '.join(names[:6])}")


def _read_index(file: Path) -> dict[str, Path] | None:
    """Tensor name -> file of the same folder, or None when there is no index."""
    if not file.exists():
        return None
    weight_map = read_object(file, max_bytes=MAX_INDEX_BYTES, error=WeightsError).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError(f"{file}: expected a weight_map from tensors to files")
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or not re.fullmatch(r"[\w][\w.-]*\.safetensors", name):
            raise WeightsError(
                f"{file}: tensor {tensor:.120}: expected the name of a shard beside it, found {name!r:.80}"
            )
    for name in sorted(set(weight_map.values())):
        if not (file.parent / name).is_file():
            raise WeightsError(f"{file}: shard {name} is missing")
    return {tensor: file.parent / name for tensor, name in weight_map.items()}
