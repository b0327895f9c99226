"""A run of the training: how long, which learning rate when, and which sequences in each step."""

from dataclasses import dataclass
from pathlib import Path
from random import Random

from scripts.demo_data.encoding import Encoder
from scripts.demo_data.mixture import Progress
from scripts.demo_data.packing import Accept, pack

TOKENS_PER_STEP = 4096
CURRICULUM_TOKENS = 14_000_000  # the mixture goes by tokens seen, not by the length of the run
LENGTHS = ((0.0, 512), (0.6, 1024), (0.8, 2048))  # from this share of the run on, tokens a sequence
WARMUP_STEPS, DECAY_FROM = 100, 0.6  # linear to 2 % after this share of the run


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is: its length, its seed and where its state is kept."""

    tokens: int
    seed: int
    folder: Path
    save_every_s: float = 120.0
    log_every: int = 20  # steps

    @property
    def steps(self) -> int:
        """Number of optimizer steps."""
        return self.tokens // TOKENS_PER_STEP

    def rate(self, step: int) -> float:
        """Learning-rate factor: warm-up, plateau, linear decay."""
        done = step / self.steps
        decay = 1.0 if done < DECAY_FROM else 1.0 - 0.98 * (done - DECAY_FROM) / (1 - DECAY_FROM)
        return min(1.0, (step + 1) / WARMUP_STEPS) * decay

    def sequences(self, step: int, encoder: Encoder, accept: Accept) -> list[tuple[list[int], list[bool]]]:
        """Return the packed sequences of a step; they depend on the seed and the step only."""
        length = max(size for start, size in LENGTHS if start <= step / self.steps)
        progress = Progress(step / (CURRICULUM_TOKENS // TOKENS_PER_STEP))
        rng = Random(f"{self.seed}:{step}")
        return [
            pack(rng, encoder, progress, length=length + 1, accept=accept) for _ in range(TOKENS_PER_STEP // length)
        ]
