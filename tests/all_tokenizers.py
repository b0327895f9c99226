"""The tokenizers of the tests: all that mistral_common packages, and small Tekken files of each later version."""

import functools
import json
import tempfile
from importlib.resources import files
from pathlib import Path

from mistral_local.tokenizer.tokenizer import Tokenizer
from scripts.demo_data.tekken import derive_tekken

PACKAGED = Path(str(files("mistral_common"))) / "data"
PACKAGED_NAMES = [
    "tokenizer.model.v1",
    "mistral_instruct_tokenizer_240216.model.v2",
    "mistral_instruct_tokenizer_240323.model.v3",
    "mistral_instruct_tokenizer_241114.model.v7",
    "mistral_instruct_tokenizer_241114.model.v7m1",
    "tekken_240718.json",
    "tekken_240911.json",
]
DERIVED_VERSIONS = ["v7", "v11", "v13", "v15"]
ALL = [*PACKAGED_NAMES, *(f"tekken {version}" for version in DERIVED_VERSIONS)]
WITH_CALLS = [name for name in ALL if not name.endswith(".v1")]
NAMED_FORM = ["tekken v11", "tekken v13", "tekken v15"]
ARRAY_FORM = [name for name in WITH_CALLS if name not in NAMED_FORM]

EFFORTS = ["none", "high"]


@functools.cache
def tokenizer_file(name: str) -> Path:
    """The file of a tokenizer of ALL; derived ones have the demo's vocabulary of 8000."""
    if name in PACKAGED_NAMES:
        return PACKAGED / name
    version = name.removeprefix("tekken ")
    content = derive_tekken()
    content["config"]["version"] = version
    special = content["special_tokens"]
    if version == "v15":
        for token in ("[MODEL_SETTINGS]", "[/MODEL_SETTINGS]"):
            special.append({"rank": len(special), "token_str": token, "is_control": True})
        effort = {"type": "enum", "accepts_none": True, "default": "none", "values": EFFORTS}
        content["model_settings_builder"] = {"reasoning_effort": effort}
    path = Path(tempfile.mkdtemp(prefix="tekken_")) / "tekken.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@functools.cache
def load_tokenizer(name: str) -> Tokenizer:
    """A tokenizer of ALL, read once."""
    return Tokenizer(tokenizer_file(name))


def text(tokenizer: Tokenizer, content: str) -> list[int]:
    """The tokens of a text, without BOS."""
    return tokenizer.encode_text(content)[1:]


def control(tokenizer: Tokenizer, name: str) -> list[int]:
    """The token of a control string, as a list of one."""
    token_id = tokenizer.control_id(name)
    assert token_id is not None, f"{tokenizer.version} has no {name}"
    return [token_id]


def spelled(tokenizer: Tokenizer, parts: str) -> list[int]:
    """The tokens of a text in which <TOOL_CALLS>, <ARGS>, <CALL_ID>, <THINK> and </THINK> are control tokens."""
    tokens: list[int] = []
    rest = parts
    while rest:
        found = [(rest.find(f"<{name}>"), name) for name in ("TOOL_CALLS", "ARGS", "CALL_ID", "THINK", "/THINK")]
        at, name = min(((at, name) for at, name in found if at >= 0), default=(len(rest), ""))
        tokens += text(tokenizer, rest[:at]) if at else []
        tokens += control(tokenizer, f"[{name}]") if name else []
        rest = rest[at + len(name) + 2 :]
    return tokens
