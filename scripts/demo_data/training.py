"""The training loop: seeded by step, resumable at any moment."""

import time
from pathlib import Path
from typing import Any

import torch

from one_file_ref import Transformer
from scripts.demo_data.encoding import Encoder
from scripts.demo_data.network import loss_of, make_model
from scripts.demo_data.packing import Accept
from scripts.demo_data.plan import TOKENS_PER_STEP, Plan

LEARNING_RATE = 2e-3  # embeddings and norms, AdamW
MUON_RATE = 4e-3  # matrices, scaled to AdamW's update size


def make_optimizers(model: Transformer) -> list[torch.optim.Optimizer]:
    """Return Muon (Keller Jordan, 2024) for the matrices and AdamW for the rest."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "tok_embeddings" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "tok_embeddings" in n]
    return [
        torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


class Trainer:
    """Model, optimizers and step; `run` continues from the last saved state."""

    def __init__(self, plan: Plan, encoder: Encoder, accept: Accept) -> None:
        self.plan, self.encoder, self.accept = plan, encoder, accept
        self.model = make_model(plan.seed)
        self.optimizers = make_optimizers(self.model)
        self.base_rates = (MUON_RATE, LEARNING_RATE)
        self.step = 0
        self.seconds = 0.0
        if self.path.exists():
            self._load()

    @property
    def path(self) -> Path:
        """File of the resumable state."""
        return self.plan.folder / "state.pt"

    def run(self) -> None:
        """Train to the end of the plan, printing one line every `log_every` steps."""
        last_save, started, logged = time.monotonic(), time.monotonic(), self.step
        sums = [0.0, 0.0]
        while self.step < self.plan.steps:
            measured = self._one_step()
            sums = [a + b for a, b in zip(sums, measured, strict=True)]
            if self.step % self.plan.log_every == 0:
                now = time.monotonic()
                self._log(
                    [s / (self.step - logged) for s in sums], (self.step - logged) * TOKENS_PER_STEP / (now - started)
                )
                self.seconds += now - started
                started, logged, sums = now, self.step, [0.0, 0.0]
            if time.monotonic() - last_save > self.plan.save_every_s:
                self._save()
                last_save = time.monotonic()
        self._save()

    def _one_step(self) -> tuple[float, float]:
        ids, mask = zip(*self.plan.sequences(self.step, self.encoder, self.accept), strict=True)
        loss, accuracy = loss_of(self.model, torch.tensor(ids), torch.tensor(mask))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer, rate in zip(self.optimizers, self.base_rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * self.plan.rate(self.step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item(), accuracy.item()

    def _log(self, means: list[float], speed: float) -> None:
        tokens = self.step * TOKENS_PER_STEP
        print(
            f"{time.strftime('%H:%M:%S')} step {self.step}/{self.plan.steps} tokens {tokens / 1e6:.2f}M "
            f"loss {means[0]:.4f} accuracy {means[1]:.4f} {speed:.0f} tok/s",
            flush=True,
        )

    def _save(self) -> None:
        self.plan.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        fresh = self.path.with_suffix(".new")
        torch.save(state, fresh)
        fresh.replace(self.path)

    def _load(self) -> None:
        state: dict[str, Any] = torch.load(self.path, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.seconds = state["step"], state["seconds"]
        print(f"resumed at step {self.step}", flush=True)
