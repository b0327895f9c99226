"""int8, int4 and fp8 weights beside bf16 on a CPU: prefill and decode in turns in one process, memory in a process each.

    python bench/quantized_cpu.py [--shape 350m] [--threads 1] [--rounds 9] [--output FILE]

A ratio compares two runs of the same round, seconds apart; what is given is the median of all rounds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch

from mistral_local.bench.conditions import conditions_of
from mistral_local.bench.shapes import CHECKPOINT_SHAPES, write_random_checkpoint
from mistral_local.bench.stopwatch import Stopwatch
from mistral_local.config import QUANT_FORMATS, QuantFormat
from mistral_local.transformer import Transformer

FORMATS: tuple[QuantFormat | None, ...] = (None, *QUANT_FORMATS)
MEMORY = """
import json, sys
from mistral_local.bench.stopwatch import Stopwatch
from mistral_local.engine.follower import memory_of
from mistral_local.transformer import Transformer
folder, quantize, prompt_tokens, new_tokens = json.loads(sys.argv[1])
model = Transformer.from_folder(folder, device="cpu", quantize=quantize)
Stopwatch(model, batch_size=1, prompt_tokens=prompt_tokens, new_tokens=new_tokens).run()
lines = dict(line.split(":") for line in open("/proc/self/status"))
anonymous, peak = (1024 * int(lines[name].split()[0]) for name in ("RssAnon", "VmHWM"))
print(json.dumps({"weights": memory_of(model).weights, "anonymous": anonymous, "peak": peak}))
"""


def name_of(quantize: QuantFormat | None) -> str:
    return quantize or "bf16"


def in_turns(folder: Path, options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Tokens per second of every format in every round, and the conditions."""
    models = {q: Transformer.from_folder(folder, device="cpu", quantize=q) for q in FORMATS}
    watches = {
        q: Stopwatch(m, batch_size=1, prompt_tokens=options.prompt_tokens, new_tokens=options.new_tokens)
        for q, m in models.items()
    }
    for watch in watches.values():
        watch.run()
    rounds: list[dict[str, Any]] = []
    for number in range(options.rounds):
        figures: dict[str, Any] = {"load_average": os.getloadavg()[0]}
        start = number % len(FORMATS)
        for quantize in FORMATS[start:] + FORMATS[:start]:
            prefill_s, decode_s = watches[quantize].run()
            figures[name_of(quantize)] = {
                "prefill": options.prompt_tokens / prefill_s,
                "decode": (options.new_tokens - 1) / decode_s,
            }
        rounds.append(figures)
    return rounds, conditions_of(options.shape, models[None])


def memory(folder: Path, quantize: QuantFormat | None, options: argparse.Namespace) -> dict[str, int]:
    """Bytes of weights, of anonymous memory at the end and of resident memory at most, mapped files included."""
    how = json.dumps([str(folder), quantize, options.prompt_tokens, options.new_tokens])
    done = subprocess.run([sys.executable, "-c", MEMORY, how], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def stored(folder: Path, quantize: QuantFormat) -> Path:
    """The same checkpoint, quantized on disk."""
    from mistral_local.inspect.quantize import quantize_checkpoint

    target = folder.parent / f"{folder.name}-{quantize}"
    quantize_checkpoint(folder, target, quantize)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="350m", choices=CHECKPOINT_SHAPES)
    parser.add_argument("--prompt_tokens", type=int, default=128)
    parser.add_argument("--new_tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / options.shape
        folder.mkdir()
        write_random_checkpoint(folder, options.shape)
        rounds, conditions = in_turns(folder, options)
        while_loading = {name_of(q): memory(folder, q, options) for q in FORMATS}
        from_file = {q: memory(stored(folder, q), None, options) for q in QUANT_FORMATS}
    ratios = {
        what: {q: median(r[q][what] / r["bf16"][what] for r in rounds) for q in QUANT_FORMATS}
        for what in ("prefill", "decode")
    }
    for q in QUANT_FORMATS:
        peak = while_loading[q]["peak"] / 1e9
        print(
            f"{q}: decode {ratios['decode'][q]:.2f}, prefill {ratios['prefill'][q]:.2f} times bf16; weights "
            f"{while_loading[q]['weights'] / 1e9:.2f} GB, peak {peak:.2f} GB quantized while loading, "
            f"{from_file[q]['peak'] / 1e9:.2f} GB from a quantized file (bf16 {while_loading['bf16']['peak'] / 1e9:.2f} GB)"
        )
    if options.output is not None:
        report = {
            "conditions": conditions | {"prompt_tokens": options.prompt_tokens, "new_tokens": options.new_tokens},
            "ratios_to_bf16": ratios,
            "memory_quantized_while_loading": while_loading,
            "memory_from_quantized_file": from_file,
            "rounds": rounds,
        }
        options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
