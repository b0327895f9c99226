"""Which rank holds what of each weight: data, applied to tensors by their published names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mistral_local.args import TransformerArgs
from mistral_local.errors import UsageError
from mistral_local.parallel.place import Place

ROWS, COLUMNS = 0, 1

Unit = Literal["n_heads", "n_kv_heads", "hidden_dim", "vocab_size"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Tensors of this name are cut along `dim`, between the units of params.json that the dimension is made of."""

    pattern: str
    dim: int
    unit: Unit


RULES = (
    Rule(r"layers\.\d+\.attention\.wq\.weight", ROWS, "n_heads"),
    Rule(r"layers\.\d+\.attention\.w[kv]\.weight", ROWS, "n_kv_heads"),
    Rule(r"layers\.\d+\.attention\.wo\.weight", COLUMNS, "n_heads"),
    Rule(r"layers\.\d+\.feed_forward\.(experts\.\d+\.)?w[13]\.weight", ROWS, "hidden_dim"),
    Rule(r"layers\.\d+\.feed_forward\.(experts\.\d+\.)?w2\.weight", COLUMNS, "hidden_dim"),
    Rule(r"(tok_embeddings|output)\.weight", ROWS, "vocab_size"),
)
"""Whatever has no rule (norms, the router of the experts) is held whole by every rank of its stage."""

LAYER = re.compile(r"layers\.(\d+)\.")
EXPERT = re.compile(r"layers\.\d+\.feed_forward\.experts\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Part:
    """Elements start .. start + length - 1 along one dimension of a tensor."""

    dim: int
    start: int
    length: int

    def shape(self, whole: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the part."""
        return (*whole[: self.dim], self.length, *whole[self.dim + 1 :])


@dataclass(frozen=True, slots=True)
class Sharding:
    """What one rank holds of a model.

    Attributes:
        expert_parallel: whether the ranks of a stage hold different experts, instead of a part of each.
    """

    args: TransformerArgs
    place: Place
    expert_parallel: bool = False

    @property
    def experts(self) -> range:
        """The experts of each layer that this rank holds, whole or in part."""
        assert self.args.moe is not None
        num_experts = self.args.moe.num_experts
        return self.place.part(num_experts) if self.expert_parallel else range(num_experts)

    def holds(self, name: str) -> bool:
        """Whether this rank has anything of a tensor."""
        if layer := LAYER.match(name):
            expert = EXPERT.match(name)
            is_here = int(layer[1]) in self.place.layers(self.args.n_layers)
            return is_here and (expert is None or int(expert[1]) in self.experts)
        if name == "tok_embeddings.weight":
            return self.place.is_first_stage or (self.args.tied_embeddings and self.place.is_last_stage)
        return self.place.is_last_stage

    def part(self, name: str, shape: tuple[int, ...]) -> Part | None:
        """What this rank holds of a tensor of this shape; None for all of it."""
        rule = next((rule for rule in RULES if re.fullmatch(rule.pattern, name)), None)
        if rule is None or self.place.tp_size == 1 or (self.expert_parallel and EXPERT.match(name)):
            return None
        num_units: int = getattr(self.args, rule.unit)
        held, unit_size = self.place.part(num_units), shape[rule.dim] // num_units
        return Part(rule.dim, held.start * unit_size, len(held) * unit_size)

    def check(self) -> None:
        """Refuse numbers of ranks that the model cannot be divided by.

        Raises:
            UsageError: naming what does not divide and the numbers that would.
        """
        args, place = self.args, self.place
        if self.expert_parallel and args.moe is None:
            raise UsageError("expert_parallel: the model has no experts")
        check_stages(args, world_size=place.world_size, num_stages=place.num_stages)
        if reasons := reasons_against_tensor_parallel(args, place.tp_size, expert_parallel=self.expert_parallel):
            fitting = tensor_parallel_sizes(args, expert_parallel=self.expert_parallel)
            raise UsageError(
                f"{place.tp_size} ranks cannot share a layer: {' and '.join(reasons)}; {_listed(fitting)} can"
                f" ({place.world_size} ranks in {place.num_stages} stages were asked for)"
            )


def check_stages(args: TransformerArgs, *, world_size: int, num_stages: int) -> None:
    """Refuse a number of stages that ranks or layers cannot form.

    Raises:
        UsageError: naming the numbers that would.
    """
    most = min(world_size, args.n_layers)
    if not 1 <= num_stages <= most or world_size % num_stages:
        fitting = [stages for stages in range(1, most + 1) if world_size % stages == 0]
        hint = "" if world_size > 1 else "; torchrun --nproc-per-node starts several"
        raise UsageError(
            f"num_pipeline_ranks: {world_size} rank(s) cannot form {num_stages} stages of {args.n_layers} layers, "
            f"only {_listed(fitting)}{hint}"
        )


def reasons_against_tensor_parallel(args: TransformerArgs, tp_size: int, *, expert_parallel: bool) -> list[str]:
    """Why so many ranks cannot share each layer; empty when they can."""
    reasons = []
    if args.n_heads % tp_size:
        reasons.append(f"{args.n_heads} heads do not divide by {tp_size}")
    if args.n_kv_heads % tp_size and tp_size % args.n_kv_heads:
        reasons.append(f"{args.n_kv_heads} key/value heads neither divide by {tp_size} nor divide it")
    if expert_parallel and args.moe is not None:
        if args.moe.num_experts % tp_size:
            reasons.append(f"{args.moe.num_experts} experts do not divide by {tp_size}")
    elif args.hidden_dim % tp_size:
        reasons.append(f"hidden_dim {args.hidden_dim} does not divide by {tp_size}")
    if args.vocab_size < tp_size:
        reasons.append(f"the vocabulary has {args.vocab_size} tokens")
    return reasons


def tensor_parallel_sizes(args: TransformerArgs, *, expert_parallel: bool = False) -> list[int]:
    """How many ranks can share each layer."""
    sizes = range(1, args.n_heads + 1)
    return [size for size in sizes if not reasons_against_tensor_parallel(args, size, expert_parallel=expert_parallel)]


def _listed(numbers: list[int]) -> str:
    *others, last = map(str, numbers)
    return f"{', '.join(others)} or {last}" if others else last
