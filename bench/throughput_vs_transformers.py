"""New tokens per second of mixed requests: this engine, and transformers in static batches, in one run.

    python bench/throughput_vs_transformers.py NATIVE_FOLDER HF_FOLDER [--requests 64] [--max_num_seqs 16]

Both folders hold the same weights.  A static batch takes eight requests in order of arrival, pads their prompts on the left
and runs until the longest answer is done; only tokens that were asked for count.
"""

import argparse
import json
import os
import time
from pathlib import Path

import torch
import transformers

from mistral_local.bench.load import Request, Workload, measure_load
from mistral_local.bench.conditions import cpu_name
from mistral_local.transformer import Transformer

STATIC_BATCH = 8


def static_batches(folder: Path, requests: list[Request]) -> float:
    """Seconds that transformers takes."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    model.generate(torch.full((1, 8), 7), max_new_tokens=2, do_sample=False)
    start = time.perf_counter()
    for first in range(0, len(requests), STATIC_BATCH):
        batch = requests[first : first + STATIC_BATCH]
        width = max(len(request.prompt) for request in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, request in enumerate(batch):
            ids[row, width - len(request.prompt) :] = torch.tensor(request.prompt)
            mask[row, width - len(request.prompt) :] = 1
        longest = max(request.new_tokens for request in batch)
        with torch.inference_mode():
            model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=longest,
                min_new_tokens=longest,
                do_sample=False,
                pad_token_id=0,
            )
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("native", type=Path)
    parser.add_argument("hf", type=Path)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--prompt_tokens", type=int, default=64)
    parser.add_argument("--new_tokens", type=int, default=48)
    parser.add_argument("--max_num_seqs", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    workload = Workload(
        num_requests=options.requests, prompt_tokens=options.prompt_tokens, new_tokens=options.new_tokens
    )
    model = Transformer.from_folder(options.native, device="cpu")
    requests = workload.draw(model.args.vocab_size)
    num_new = sum(request.new_tokens for request in requests)
    rounds = []
    for _ in range(options.rounds):
        ours = measure_load(model, workload, max_num_seqs=options.max_num_seqs)
        theirs = num_new / static_batches(options.hf, requests)
        rounds.append({"ours": ours["new_tokens_per_s"], "transformers": theirs, "load_average": os.getloadavg()[0]})
        print(
            f"{rounds[-1]['ours']:8.1f} tok/s   transformers {theirs:8.1f}   {rounds[-1]['ours'] / theirs:.2f}x",
            flush=True,
        )
    if options.output is not None:
        report = {
            "requests": options.requests, "prompt_tokens": sum(len(request.prompt) for request in requests),
            "new_tokens": num_new, "max_num_seqs": options.max_num_seqs, "static_batch": STATIC_BATCH,
            "cpu": cpu_name(), "threads": torch.get_num_threads(), "torch": torch.__version__, "transformers": transformers.__version__,
            "rounds": rounds,
        }  # fmt: skip
        options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
