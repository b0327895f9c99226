"""How far the demo's next-token distributions move when something is rounded."""

import torch

from mistral_local.demo.locate import demo_checkpoint
from mistral_local.generate import generate
from mistral_local.tasks.llm import load
from mistral_local.transformer import Transformer

TEXTS = [
    "Write a haiku about San Francisco.",
    "What are the first 50 Fibonacci numbers?",
    "def add(a, b):\n    return",
]


def demo_answers(model: Transformer) -> list[tuple[list[int], list[int]]]:
    """Prompts of the demo, and its greedy answers."""
    llm = load()
    prompts = [llm.prepare_chat([{"role": "user", "content": text}]).tokens for text in TEXTS]
    return list(zip(prompts, generate(prompts, model, max_tokens=60, temperature=0.0)[0], strict=True))


def kl_from_the_demo(rounded: Transformer) -> float:
    """Nats per token over the prompts and answers of the demo as it is."""
    exact = Transformer.from_folder(demo_checkpoint())
    tokens = [prompt + answer for prompt, answer in demo_answers(exact)]
    flat, lengths = torch.tensor([t for row in tokens for t in row]), [len(row) for row in tokens]
    logprobs = [model(flat, lengths).log_softmax(-1) for model in (exact, rounded)]
    return float((logprobs[0].exp() * (logprobs[0] - logprobs[1])).sum(-1).mean())
