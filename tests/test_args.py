"""params.json and config.json: what is understood, what is harmless, and what is refused by its name."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mistral_local.args import LoraArgs, MambaArgs, MoeArgs, TransformerArgs, VisionEncoderArgs
from mistral_local.errors import CheckpointError, ParamsError, UnsupportedCheckpointError

SEVEN_B = {
    "dim": 4096,
    "n_layers": 32,
    "head_dim": 128,
    "hidden_dim": 14336,
    "n_heads": 32,
    "n_kv_heads": 8,
    "norm_eps": 1e-05,
    "vocab_size": 32768,
    "rope_theta": 1000000.0,
}
HF = {
    "architectures": ["MistralForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "dtype": "bfloat16",
    "eos_token_id": 2,
    "head_dim": None,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "pad_token_id": None,
    "rms_norm_eps": 1e-05,
    "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
    "sliding_window": None,
    "tie_word_embeddings": False,
    "transformers_version": "5.23.0",
    "use_cache": True,
    "vocab_size": 32768,
}


def folder_with(folder: Path, content: dict[str, Any] | str, name: str = "params.json") -> Path:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def refusal(folder: Path) -> str:
    """The one-line message with which the folder is refused."""
    with pytest.raises(CheckpointError) as caught:
        TransformerArgs.from_folder(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_published_params_json_is_read(tmp_path: Path) -> None:
    args = TransformerArgs.from_folder(folder_with(tmp_path, SEVEN_B))
    assert args == TransformerArgs(
        dim=4096,
        n_layers=32,
        head_dim=128,
        hidden_dim=14336,
        n_heads=32,
        n_kv_heads=8,
        norm_eps=1e-5,
        vocab_size=32768,
        rope_theta=1e6,
    )
    assert (args.context_length, args.context_source) == (32768, "published for Mistral 7B v0.2 and v0.3")


def test_constructor_takes_the_keywords_of_mistral_inference() -> None:
    args = TransformerArgs(
        dim=512,
        n_layers=1,
        head_dim=128,
        hidden_dim=2048,
        n_heads=4,
        n_kv_heads=2,
        norm_eps=1e-5,
        vocab_size=32_000,
        max_batch_size=3,
        rope_theta=None,
        moe=MoeArgs(num_experts=8, num_experts_per_tok=2),
    )
    args.max_batch_size = 5
    assert TransformerArgs.from_dict(args.to_dict()) == args
    assert TransformerArgs.loads(args.dumps()) == args
    assert LoraArgs(rank=64, scaling=2.0)
    assert VisionEncoderArgs(1, 3, 16, 2, 4, 1, 1).rope_theta == 1e4
    assert MambaArgs(64, 2, 100, 8, True, True, True, 1, False).model_type == "mamba"


def test_absent_theta_depends_on_the_window() -> None:
    params = {name: value for name, value in SEVEN_B.items() if name != "rope_theta"}
    assert TransformerArgs.from_dict(params).theta == 1e6
    assert TransformerArgs.from_dict(params | {"sliding_window": 4096}).theta == 1e4
    assert TransformerArgs.from_dict(params | {"sliding_window": [None, 4096]}).theta == 1e6
    assert TransformerArgs.from_dict(params | {"sliding_window": 4096, "rope_theta": 5e5}).theta == 5e5


@pytest.mark.parametrize(
    ("spelling", "windows"),
    [
        (None, [None] * 5),
        (4096, [4096] * 5),
        ("4096", [4096] * 5),
        ("null", [None] * 5),
        ([None, 8, 16], [None, 8, 16, None, 8]),
        ("[null, 8, 16]", [None, 8, 16, None, 8]),
        ("None,8,16", [None, 8, 16, None, 8]),
        ("[8]", [8] * 5),
    ],
)
@pytest.mark.parametrize("field", ["sliding_window", "_sliding_window"])
def test_every_spelling_of_the_window(field: str, spelling: object, windows: list[int | None]) -> None:
    args = TransformerArgs.from_dict(SEVEN_B | {field: spelling})
    assert [args.window(layer) for layer in range(5)] == windows
    assert TransformerArgs.from_dict(args.to_dict()) == args


def test_context_length_says_where_it_comes_from() -> None:
    def context(**params: object) -> tuple[int, str]:
        args = TransformerArgs.from_dict(SEVEN_B | params)
        return args.context_length, args.context_source

    nemo = {"dim": 5120, "n_layers": 40, "vocab_size": 131072}
    moe = {"num_experts": 8, "num_experts_per_tok": 2}
    assert context(max_seq_len=100, max_position_embeddings=200) == (100, "max_seq_len")
    assert context(max_position_embeddings=200) == (200, "max_position_embeddings")
    assert context(rope_theta=None, sliding_window=4096) == (8192, "published for Mistral 7B v0.1")
    assert context(moe=moe) == (32768, "published for Mixtral 8x7B")
    assert context(dim=6144, n_layers=56, hidden_dim=16384, moe=moe) == (65536, "published for Mixtral 8x22B")
    assert context(**nemo) == (131072, "published for Mistral Nemo")
    assert context(dim=12288, n_layers=88, hidden_dim=28672) == (131072, "published for Mistral Large 2")
    length, source = context(dim=64)
    assert length == 32768
    assert source.startswith("default")


def test_null_means_absent_and_harmless_fields_are_dropped() -> None:
    absent = dict.fromkeys(("q_lora_rank", "kv_lora_rank", "v_head_dim", "yarn", "quantization", "vision_encoder"))
    harmless = {"use_biases": False, "causal": True, "activation": "silu", "dtype": "bfloat16", "model_parallel": 4}
    empty = {"quantization_config": {}, "multimodal": {}, "ada_rms_norm_t_cond": False, "moe": {}}
    assert TransformerArgs.from_dict(SEVEN_B | absent | harmless | empty) == TransformerArgs.from_dict(SEVEN_B)


def test_harmless_moe_fields_are_dropped() -> None:
    moe = {"num_experts": 8, "num_experts_per_tok": 2}
    more = {"num_shared_experts": 0, "routed_scale": 1.0, "expert_hidden_dim": 14336, "expert_parallel": 8}
    assert TransformerArgs.from_dict(SEVEN_B | {"moe": moe | more}).moe == MoeArgs(8, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 1_000_000_000}, "dim: expected an integer from 1 to 131072, found 1000000000"),
        ({"n_layers": 1_000_000}, "n_layers: expected an integer from 1 to 1024, found 1000000"),
        ({"n_heads": 0}, "n_heads: expected an integer from 1 to 4096, found 0"),
        ({"n_layers": -1}, "n_layers: expected an integer from 1 to 1024, found -1"),
        ({"n_layers": True}, "n_layers: expected an integer from 1 to 1024, found true"),
        ({"dim": 4096.0}, "dim: expected an integer from 1 to 131072, found 4096.0"),
        ({"dim": "4096"}, 'dim: expected an integer from 1 to 131072, found "4096"'),
        ({"vocab_size": None}, "vocab_size: missing"),
        ({"dim": None, "norm_eps": None}, "dim, norm_eps: missing"),
        ({"head_dim": 127}, "head_dim: expected an even number, found 127"),
        ({"n_kv_heads": 5}, "n_kv_heads: expected a divisor of n_heads (32), found 5"),
        ({"norm_eps": 0}, "norm_eps: expected a number above 0 and up to 1, found 0"),
        ({"norm_eps": "small"}, 'norm_eps: expected a number above 0 and up to 1, found "small"'),
        (
            {"norm_eps": 10**400},
            f"norm_eps: expected a number above 0 and up to 1, found 1{'0' * 56}...",
        ),
        ({"rope_theta": -1.0}, "rope_theta: expected a number above 0 and up to 1e+15, found -1.0"),
        ({"sliding_window": 0}, "sliding_window: expected an integer from 1 to 2147483647, found 0"),
        ({"sliding_window": []}, "sliding_window: expected a list of 1 to 1024 widths, found 0"),
        ({"sliding_window": "wide"}, 'sliding_window: expected a width or a list of widths, found "wide"'),
        (
            {"sliding_window": 8, "_sliding_window": 9},
            "_sliding_window: expected 8 as in sliding_window, found 9",
        ),
        ({"tied_embeddings": 1}, "tied_embeddings: expected true or false, found 1"),
        ({"max_seq_len": 0}, "max_seq_len: expected an integer from 1 to 100000000, found 0"),
        ({"moe": 8}, "moe: expected an object, found 8"),
        ({"moe": {"num_experts": 8}}, "moe.num_experts_per_tok: missing"),
        (
            {"moe": {"num_experts": 2, "num_experts_per_tok": 3}},
            "moe.num_experts_per_tok: expected at most num_experts (2), found 3",
        ),
        (
            {"moe": {"num_experts": 2, "num_experts_per_tok": 1, "jitter": 3}},
            "moe.jitter: unknown field with the value 3; it may change the result",
        ),
        ({"rope_twist": 2}, "rope_twist: unknown field with the value 2; it may change the result"),
    ],
)
def test_bad_values_are_refused_by_name(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder_with(tmp_path, SEVEN_B | change)
    assert refusal(tmp_path) == f"{tmp_path / 'params.json'}: {message}"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"vision_encoder": {"hidden_size": 1024}}, "vision_encoder"),
        ({"multimodal": {"whisper_model_args": {}}}, "multimodal"),
        ({"yarn": {"factor": 16}}, "yarn"),
        ({"llama_4_scaling": {"beta": 0.1}}, "llama_4_scaling"),
        ({"q_lora_rank": 1536}, "q_lora_rank"),
        ({"kv_lora_rank": 512}, "kv_lora_rank"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config.quant_method"),
        ({"ada_rms_norm_t_cond": True}, "ada_rms_norm_t_cond"),
        ({"lora": {"rank": 64, "scaling": 2.0}}, "lora"),
        ({"model_type": "mamba"}, "model_type"),
        ({"model_type": "voxtral_tts"}, "model_type"),
        ({"activation": "gelu"}, "activation"),
        ({"use_biases": True}, "use_biases"),
        ({"causal": False}, "causal"),
        ({"moe": {"num_experts": 8, "num_experts_per_tok": 2, "num_shared_experts": 1}}, "moe.num_shared_experts"),
        ({"moe": {"num_experts": 8, "num_experts_per_tok": 2, "expert_hidden_dim": 64}}, "moe.expert_hidden_dim"),
        ({"moe": {"num_experts": 8, "num_experts_per_tok": 2, "routed_scale": 2.5}}, "moe.routed_scale"),
    ],
)
def test_fields_that_change_the_computation_are_unsupported_by_name(
    tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    folder_with(tmp_path, SEVEN_B | change)
    with pytest.raises(UnsupportedCheckpointError, match=rf"^{re.escape(str(tmp_path))}/params\.json: {field}: "):
        TransformerArgs.from_folder(tmp_path)


def test_extra_fields_are_dropped_only_when_asked_and_never_those_that_matter() -> None:
    assert TransformerArgs.from_dict(SEVEN_B | {"note": 1}, drop_extra_fields=True).dim == 4096
    with pytest.raises(UnsupportedCheckpointError, match=r"^yarn: "):
        TransformerArgs.from_dict(SEVEN_B | {"yarn": {"factor": 2}}, drop_extra_fields=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON (Expecting value: line 1 column 1 (char 0))"),
        ("[1]", "expected a JSON object, found [1]"),
        ('{"dim": 1, "dim": 2}', 'the key "dim" appears twice'),
        ('{"norm_eps": NaN}', "NaN is not a JSON number"),
        ('{"norm_eps": -Infinity}', "-Infinity is not a JSON number"),
        (" " * (1 << 20) + "{}", "expected at most 1048576 bytes of JSON, found 1048578"),
    ],
)
def test_broken_json_is_refused(tmp_path: Path, text: str, message: str) -> None:
    folder_with(tmp_path, text)
    assert refusal(tmp_path) == f"{tmp_path / 'params.json'}: {message}"


@pytest.mark.parametrize(
    "content", [b"\xff\xfe{}", b"[" * 100_000, b'{"dim": ' + b"9" * 5000 + b"}", b'{"dim": 1e999}']
)
def test_hostile_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "params.json").write_bytes(content)
    assert refusal(tmp_path).startswith(str(tmp_path / "params.json"))


def test_a_folder_that_is_not_a_checkpoint_says_what_it_is(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone") == f"{tmp_path / 'gone'}: no such folder"
    expected = "expected params.json (or a Hugging Face config.json), found"
    assert refusal(tmp_path) == f"{tmp_path}: {expected} nothing"
    (tmp_path / "model.gguf").touch()
    assert refusal(tmp_path) == f"{tmp_path}: {expected} model.gguf"
    assert refusal(tmp_path / "model.gguf") == f"{tmp_path / 'model.gguf'}: not a folder"
    (tmp_path / "params.json").mkdir()
    assert refusal(tmp_path).startswith(f"{tmp_path / 'params.json'}: cannot be read (Is a directory)")


def test_hugging_face_config_says_the_same_as_params_json(tmp_path: Path) -> None:
    args = TransformerArgs.from_folder(folder_with(tmp_path, HF, "config.json"))
    assert args == TransformerArgs.from_dict(SEVEN_B | {"max_position_embeddings": 32768})
    older = {name: value for name, value in HF.items() if name != "rope_parameters"} | {"rope_theta": 1e6}
    assert TransformerArgs.from_folder(folder_with(tmp_path, older, "config.json")) == args
    windowed = TransformerArgs.from_folder(folder_with(tmp_path, HF | {"sliding_window": 4096}, "config.json"))
    assert (windowed.sliding_window, windowed.theta) == (4096, 1e6)
    mixtral = HF | {"model_type": "mixtral", "architectures": None, "num_local_experts": 8, "num_experts_per_tok": 2}
    assert TransformerArgs.from_folder(folder_with(tmp_path, mixtral, "config.json")).moe == MoeArgs(8, 2)


def test_params_json_wins_over_config_json(tmp_path: Path) -> None:
    folder_with(tmp_path, HF, "config.json")
    assert TransformerArgs.from_folder(folder_with(tmp_path, SEVEN_B)).max_position_embeddings is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model_type": "llama"},
            'model_type: only "mistral" and "mixtral" of Hugging Face are supported, found "llama"',
        ),
        ({"hidden_act": "gelu"}, 'hidden_act: only "silu" is supported, found "gelu"'),
        ({"attention_bias": True}, "attention_bias: only false is supported, found true"),
        ({"rope_scaling": {"type": "yarn"}}, 'rope_scaling.type: scaled positions are not supported, found "yarn"'),
        (
            {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default", "factor": 2.0}},
            "rope_parameters.factor: scaled positions are not supported, found 2.0",
        ),
        ({"rope_theta": 1e4}, "rope_theta: expected one value, found [10000.0, 1000000.0]"),
        ({"rope_parameters": None}, "rope_theta: missing"),
        ({"rope_parameters": {"rope_theta": None, "rope_type": "default"}}, "rope_theta: missing"),
        (
            {"quantization_config": {"bits": 4}},
            'quantization_config.quant_method: only "compressed-tensors" and "fp8" are supported, found null',
        ),
        ({"layer_types": ["full_attention"]}, "layer_types: a window per layer is not supported yet"),
        ({"num_local_experts": 8}, "num_local_experts: unknown field with the value 8; it may change the result"),
        ({"hidden_size": None}, "hidden_size: missing"),
        ({"hidden_size": 10**9}, "hidden_size: expected an integer from 1 to 131072, found 1000000000"),
        ({"num_key_value_heads": 0}, "num_key_value_heads: expected an integer from 1 to 4096, found 0"),
        (
            {"architectures": ["MistralForSequenceClassification"]},
            'architectures: only ["MistralForCausalLM"] is supported for mistral, '
            'found ["MistralForSequenceClassification"]',
        ),
    ],
)
def test_hugging_face_config_is_as_strict(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder_with(tmp_path, HF | change, "config.json")
    assert refusal(tmp_path) == f"{tmp_path / 'config.json'}: {message}"


def test_args_need_no_torch() -> None:
    code = "import sys, mistral_local.args; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_direct_construction_is_checked_too() -> None:
    with pytest.raises(ParamsError, match=r"^dim: "):
        TransformerArgs(0, 1, 8, 16, 2, 1, 1e-5, 100)
    with pytest.raises(UnsupportedCheckpointError, match=r"^lora: "):
        TransformerArgs(16, 1, 8, 16, 2, 1, 1e-5, 100, lora=LoraArgs(4, 2.0))
    with pytest.raises(ParamsError, match=r"^lora\.rank: "):
        LoraArgs(0, 2.0)
