"""mistral-demo: see that a checkpoint works."""

import contextlib

from mistral_local.cli.console import Console
from mistral_local.cli.loading import find_placement, follow, load_model
from mistral_local.cli.session import options_by_name
from mistral_local.config import KVDtype, QuantFormat
from mistral_local.tasks.options import GenerationOptions

PROMPTS = (
    "This is a test",
    "This is another great test",
    "This is a third test, mistral AI is very good at testing. ",
)
RULER = "====================="


def demo(
    model_path: str | None = None,
    *,
    max_tokens: int = 35,
    temperature: float = 0.0,
    top_p: float = 0.8,
    seed: int | None = None,
    lora_path: str | None = None,
    quantize: QuantFormat | None = None,
    device: str | None = None,
    dtype: str | None = None,
    num_threads: int | None = None,
    kv_dtype: KVDtype = "auto",
    deterministic: bool = False,
    num_pipeline_ranks: int = 1,
    expert_parallel: bool = False,
) -> None:
    """complete three test prompts in one batch

    Args:
        model_path: checkpoint folder, or its name in $MISTRAL_MODEL; without it the bundled demo checkpoint is used
        max_tokens: most new tokens per prompt
        temperature: 0 picks the likeliest token, more is more varied
        top_p: sample from the likeliest tokens that make up this probability, above 0 and at most 1
        seed: whole number that makes the sampling repeatable
        lora_path: LoRA adapter (safetensors file) to merge into the weights
        quantize: int8, int4 or fp8 rounds the weights while they are read; without it they stay as stored
        device: cpu, cuda, cuda:1 ...; without it cuda if there is one
        dtype: float32, bfloat16 or float16; without it as stored
        num_threads: CPU threads; without it as many as torch takes, and one for a tiny model
        kv_dtype: fp8 stores keys and values in half the memory, rounded; auto as the model computes
        deterministic: the same bits for a request whatever runs beside it; bfloat16 on a CPU only, and slower prompts
        num_pipeline_ranks: under torchrun, stages that the layers are divided into; the ranks of a stage share each layer
        expert_parallel: under torchrun, let ranks hold different experts instead of a part of each
    """
    console = Console()
    folder = find_placement(model_path, num_pipeline_ranks)
    options = GenerationOptions(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
    how = {
        "device": device,
        "dtype": dtype,
        "lora_path": lora_path,
        "quantize": quantize,
        "num_threads": num_threads,
        "kv_dtype": kv_dtype,
        "deterministic": deterministic,
        "max_batch_size": len(PROMPTS),
        "num_pipeline_ranks": num_pipeline_ranks,
        "expert_parallel": expert_parallel,
    }
    follow(folder, **how)
    model = load_model(folder, console, **how)
    with contextlib.closing(model):
        answers = model.complete_batch(list(PROMPTS), **options_by_name(options))
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        console.answer(f"{prompt}{answer.text}\n{RULER}\n")
