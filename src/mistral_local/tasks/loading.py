"""Everything that a checkpoint needs to answer: model, tokenizer and engine, loaded and made to fit each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from mistral_local.config import (
    NGRAM_GUESSES,
    QUANT_FORMATS,
    EngineConfig,
    KVDtype,
    QuantFormat,
    Speculation,
    check_kv_dtype,
    parse_bytes,
)
from mistral_local.demo.locate import demo_checkpoint
from mistral_local.engine.engine import Engine
from mistral_local.engine.follower import serve_to_the_end
from mistral_local.engine.roads import block_size_for, name_of_road, reasons_against_faster_roads
from mistral_local.engine.warm_up import warmed_up
from mistral_local.errors import AdapterError, TokenizerError, UsageError
from mistral_local.memory import in_words
from mistral_local.model.transformer import Transformer
from mistral_local.tokenizer.find import find_tokenizer
from mistral_local.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Runtime:
    """A loaded checkpoint.

    Attributes:
        name: of its folder.
    """

    name: str
    model: Transformer
    tokenizer: Tokenizer
    engine: Engine


def load_runtime(
    folder: str | Path | None = None,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    max_batch_size: int = 1,
    max_waiting: int | None = None,
    max_context: int | None = None,
    kv_memory: str | int | None = None,
    kv_dtype: KVDtype = "auto",
    speculate: Speculation = "off",
    deterministic: bool = False,
    quantize: QuantFormat | None = None,
    lora_path: str | Path | None = None,
    num_threads: int | None = None,
    num_pipeline_ranks: int = 1,
    expert_parallel: bool = False,
    on_rank_loss: Callable[[str], None] | None = None,
    progress: Callable[[int, int, int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Runtime:
    """Load a checkpoint folder; arguments and errors as in load().

    Args:
        max_waiting: most sequences that wait for their turn; None means any number.
        on_rank_loss: called by another thread when another rank cannot go on, a few seconds before this process is
            ended; None says the cause on stderr.

    Raises:
        SystemExit: on every rank of torchrun but the first, when that one has ended, which is served until then.
    """
    _check_before_loading(num_threads, lora_path, quantize, kv_dtype)
    kv_memory_bytes = None if kv_memory is None else parse_bytes(kv_memory)
    name = "mistral-local-demo" if folder is None else Path(folder).resolve().name
    folder = demo_checkpoint() if folder is None else Path(folder)
    note = note or (lambda _: None)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    model = Transformer.from_folder(
        folder,
        max_batch_size,
        num_pipeline_ranks,
        device=device,
        dtype=parse_dtype(dtype),
        expert_parallel=expert_parallel,
        quantize=quantize if lora_path is None else None,
        progress=progress,
        note=note,
    )
    model.world.on_loss = on_rank_loss
    if lora_path is not None:
        model.load_lora(lora_path)
        if quantize is not None:
            model.quantize(quantize)
    if model.world.is_follower:
        serve_to_the_end(model)
    tokenizer = _load_tokenizer(folder, model, note)
    if max_context is None:
        max_context = model.args.context_length
        if not model.args.states_context:
            note(f"context {max_context} tokens ({model.args.context_source}); --max_context changes it")
    elif max_context > model.args.context_length:
        note(f"context {max_context} tokens, but the model is made for {model.args.context_length}")
    config = EngineConfig(
        max_num_seqs=max_batch_size,
        max_context=max_context,
        block_size=block_size_for(model, kv_dtype),
        kv_memory_bytes=kv_memory_bytes,
        kv_dtype=kv_dtype,
        max_waiting=max_waiting,
        max_guesses=NGRAM_GUESSES if speculate == "ngram" else 0,
        deterministic=deterministic,
    )
    engine = Engine(model, config)
    if engine.max_context < max_context:
        note(f"memory holds a KV cache of {engine.max_context} tokens, fewer than the context of {max_context}")
    if model.device.type == "cuda":
        engine = warmed_up(engine)
        for reason in reasons_against_faster_roads(model, config):
            note(reason)
    return Runtime(name, model, tokenizer, engine)


def describe(model: Transformer, tokenizer: Tokenizer, engine: Engine) -> str:
    """A loaded model in a line: size, dtype, device, tokenizer, context."""
    args = model.args
    num_parameters = model.num_parameters
    experts = f", {args.moe.num_experts} experts" if args.moe else ""
    return (
        f"{_short(num_parameters)} parameters, {args.n_layers} layers{experts}, "
        f"{_quantization(model)}{str(model.dtype).removeprefix('torch.')} on {model.device} "
        f"({name_of_road(model, engine.config)}), "
        f"tokenizer {tokenizer.version}, context {engine.max_context} tokens, "
        f"KV cache {engine.kv_tokens} tokens ({in_words(engine.kv_bytes)})"
    )


def _quantization(model: Transformer) -> str:
    quant_format = model.quant_format
    return "" if quant_format is None else f"{quant_format} weights, "


def _load_tokenizer(folder: Path, model: Transformer, note: Callable[[str], None]) -> Tokenizer:
    choice = find_tokenizer(folder)
    if choice.others:
        note(f"{choice.file.name} chosen over {', '.join(file.name for file in choice.others)}")
    tokenizer = Tokenizer(choice.file)
    if tokenizer.vocab_size != model.args.vocab_size:
        raise TokenizerError(
            f"{choice.file.name} has {tokenizer.vocab_size} tokens, params.json says vocab_size {model.args.vocab_size}"
        )
    return tokenizer


def _check_before_loading(
    num_threads: int | None, lora_path: str | Path | None, quantize: str | None, kv_dtype: str
) -> None:
    """Refuse at once what would be found only after the weights were read."""
    if num_threads is not None and num_threads < 1:
        raise UsageError(f"num_threads: expected at least 1, got {num_threads}")
    if quantize is not None and quantize not in QUANT_FORMATS:
        raise UsageError(f"quantize: expected {', '.join(QUANT_FORMATS)}, got {quantize!r}")
    check_kv_dtype(kv_dtype)
    if lora_path is not None and not Path(lora_path).is_file():
        raise AdapterError(f"{lora_path}: no such file")


def parse_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """The dtype of that name; None stays None.

    Raises:
        UsageError: if there is none, or it has no fractions.
    """
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    found = getattr(torch, dtype, None)
    if not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise UsageError(f"dtype: expected float32, float16 or bfloat16, got {dtype!r}")
    return found


def _short(count: int) -> str:
    for unit, name in ((10**9, "B"), (10**6, "M")):
        if count >= unit:
            return f"{count / unit:.1f}{name}"
    return str(count)
