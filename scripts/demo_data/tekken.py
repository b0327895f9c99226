"""The demo tokenizer: the head of the Tekken vocabulary that mistral_common ships, as a v13 file."""

import base64
import json
from pathlib import Path
from typing import Any

import mistral_common
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

SOURCE = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
NUM_RANKS = 7000  # byte-pair ranks kept; ids are ranks shifted by the special tokens
NUM_SPECIAL_TOKENS = 1000  # as in the source: undefined ones are fillers <SPECIAL_n>
# mistral_common encodes the suffix of a fill-in-the-middle request after "\u263a" and drops the two tokens of that sign;
# without this merge of its first two bytes it would be three, and each suffix would start with a stray byte.
SIGN_MERGE = base64.b64encode("\u263a".encode()[:2]).decode()
ADDED = ("[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]")  # what versions 11 and 13 use beyond the listed ones


def derive_tekken() -> dict[str, Any]:
    """Return the content of the demo's tekken.json: 8000 ids, about 0.5 MB."""
    source = json.loads(SOURCE.read_text(encoding="utf-8"))
    listed = list(Tekkenizer.DEPRECATED_SPECIAL_TOKENS)
    special = [{"rank": t["rank"], "token_str": str(t["token_str"]), "is_control": True} for t in listed]
    special += [{"rank": len(listed) + i, "token_str": name, "is_control": True} for i, name in enumerate(ADDED)]
    config = {
        "pattern": source["config"]["pattern"],
        "num_vocab_tokens": NUM_RANKS,
        "default_vocab_size": NUM_SPECIAL_TOKENS + NUM_RANKS,
        "default_num_special_tokens": NUM_SPECIAL_TOKENS,
        "version": "v13",
    }
    vocab = [*source["vocab"][: NUM_RANKS - 1], {"rank": NUM_RANKS - 1, "token_bytes": SIGN_MERGE, "token_str": None}]
    return {"config": config, "type": "Tekken", "version": 1, "vocab": vocab, "special_tokens": special}


def write_tekken(path: Path) -> None:
    """Write the demo's tekken.json, creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(derive_tekken(), ensure_ascii=False), encoding="utf-8")
