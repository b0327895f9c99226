"""Imports go down one road: which room may import which is data here, and a new edge is a decision."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "mistral_local"
EVERYONE = {"errors", "args", "config"}
MODEL_AND_BELOW = {"kernels", "kvcache", "attention", "weights", "memory", "parallel"}

# Room -> the rooms it may import, beside itself and the three that everyone may.
ALLOWED = {
    "errors": set(),
    "args": set(),
    "config": set(),
    "memory": set(),
    "kernels": set(),
    "kvcache": {"kernels"},
    "parallel": {"memory"},
    "attention": {"kernels", "kvcache"},
    "weights": {"kernels", "memory", "parallel"},
    "model": MODEL_AND_BELOW,
    "tokenizer": set(),
    "sampling": {"kernels"},
    "engine": {"model", "kvcache", "attention", "sampling", "memory", "parallel", "kernels"},
    "tools": {"tokenizer"},
    "demo": set(),
    "hub": set(),
    "clients": set(),
    "tasks": {"tokenizer", "sampling", "engine", "tools", "model", "demo", "memory"},
    "generate": {"engine", "model", "sampling"},
    "transformer": {"model"},
    "lora": {"args"},
    "main": {"model", "generate", "cli"},
    "bench": {"engine", "model", "sampling", "kvcache", "memory", "attention", "kernels", "weights"},
    "inspect": {"weights", "tokenizer", "tools", "tasks", "model", "parallel", "kvcache", "kernels"},
    "server": {"inspect", "tasks", "tools", "engine", "sampling"},
    "cli": {
        "inspect",
        "server",
        "bench",
        "hub",
        "clients",
        "tasks",
        "tools",
        "demo",
        "engine",
        "sampling",
        "model",
        "generate",
        "tokenizer",
        "weights",
        "parallel",
    },
    "__init__": {"tasks", "model", "tools"},
}
WITHOUT_TORCH = {"errors", "args", "config", "tokenizer", "tools", "demo", "hub", "clients"}


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_modules(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("file", files(), ids=lambda f: str(f.relative_to(SOURCE)))
def test_a_file_imports_only_rooms_below_its_own(file: Path) -> None:
    room = room_of(file)
    own = {name.split(".")[1] for name in imported_modules(file) if name.startswith("mistral_local.")}
    forbidden = own - ALLOWED[room] - EVERYONE - {room}
    assert not forbidden, f"{room} may not import {sorted(forbidden)}"


@pytest.mark.parametrize("file", files(), ids=lambda f: str(f.relative_to(SOURCE)))
def test_rooms_without_torch_do_not_import_it(file: Path) -> None:
    if room_of(file) in WITHOUT_TORCH:
        assert not {name for name in imported_modules(file) if name.split(".")[0] == "torch"}


def test_the_table_has_no_circle() -> None:
    settled: set[str] = set()
    while len(settled) < len(ALLOWED):
        ready = {room for room, below in ALLOWED.items() if room not in settled and below <= settled}
        assert ready, f"a circle among {sorted(set(ALLOWED) - settled)}"
        settled |= ready


def test_every_room_is_in_the_table() -> None:
    assert {room_of(file) for file in files()} <= set(ALLOWED)
