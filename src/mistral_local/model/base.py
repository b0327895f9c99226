"""What every model has: arguments, a device, a dtype, weights from a folder and LoRA adapters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self, cast

import torch
from torch import nn

from mistral_local.args import TransformerArgs
from mistral_local.config import QuantFormat
from mistral_local.errors import UsageError
from mistral_local.kernels import triton
from mistral_local.kernels.quantized import COLUMNS_MULTIPLE
from mistral_local.kernels.quantized import quantize as quantize_weight
from mistral_local.kernels.tensor_watch import TensorWatch
from mistral_local.model.attention import Attention
from mistral_local.model.feed_forward import FeedForward
from mistral_local.model.linear import Linear, is_joined_on
from mistral_local.model.moe import MoeFeedForward
from mistral_local.model.norm import RMSNorm
from mistral_local.model.parallelize import Decoder, parallelize
from mistral_local.parallel.launch import find_launch
from mistral_local.parallel.place import Place
from mistral_local.parallel.rules import Sharding
from mistral_local.parallel.world import World, join_world, local_device
from mistral_local.weights.checkpoint import open_checkpoint
from mistral_local.weights.load import load_weights
from mistral_local.weights.lora import merge_lora
from mistral_local.weights.rounding import Rounding, quantized_slots
from mistral_local.weights.slots import Slot

NOT_QUANTIZABLE = f"no matrix can be quantized: none has rows of a multiple of {COLUMNS_MULTIPLE} numbers"


class ModelBase(nn.Module):
    """A model that is described by TransformerArgs and filled from a checkpoint folder."""

    def __init__(self, args: TransformerArgs) -> None:
        super().__init__()
        self.args = args
        self.world = World()
        self.slots: dict[str, Slot] | None = None
        """Where the tensors of a checkpoint go, if only a part of them is held here."""
        self._watches: list[TensorWatch] = []
        self._weights_version = 0
        self.kept_kv: object | None = None
        """The KV cache that generate() used last; it lives as long as the weights."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in, and all weights are held in that are not quantized."""
        return next(module.weight.dtype for module in self.modules() if isinstance(module, RMSNorm))

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        max_batch_size: int = 1,
        num_pipeline_ranks: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        expert_parallel: bool = False,
        quantize: QuantFormat | None = None,
        progress: Callable[[int, int, int], None] | None = None,
        note: Callable[[str], None] | None = None,
    ) -> Self:
        """Load a checkpoint folder as published.

        Under torchrun every rank calls it and gets its part of the model; only that is read.

        Args:
            folder: params.json and consolidated*.safetensors or consolidated.00.pth, or the Hugging Face layout.
            max_batch_size: most prompts that generate() runs at the same time.
            num_pipeline_ranks: stages that the layers are divided into; the ranks of a stage share each of its layers.
            device: None takes CUDA if there is one, else the CPU; under torchrun LOCAL_RANK picks the GPU.
            dtype: None keeps what is stored.
            expert_parallel: let the ranks of a stage hold different experts, instead of a part of each.
            quantize: round the matrices inside the blocks to this when they are read; never is more than one of them in memory
                unrounded.
            progress: called with (tensors done, tensors in all, bytes done).
            note: called with one-line notices, such as which of two weight files was taken.

        Raises:
            CheckpointError: if the folder is not a usable checkpoint.
            OutOfMemoryError: if the weights do not fit.
            UsageError: if the device does not exist, the ranks cannot share this model, or nothing of it can be quantized; no
                weights were read then.
        """
        launch = find_launch()
        folder, device = Path(folder), _device(local_device(launch, device))
        args = TransformerArgs.from_folder(folder)
        args.max_batch_size = max_batch_size
        sharding = Sharding(args, Place(launch.rank, launch.world_size, num_pipeline_ranks), expert_parallel)
        sharding.check()
        if args.quantization is not None and (quantize is not None or launch.world_size > 1):
            what = "are quantized already" if quantize is not None else "cannot be divided over several processes yet"
            raise UsageError(f"{folder}: the weights {what}")
        world = join_world(sharding.place, launch, device) if launch.world_size > 1 else World()
        _check_kernels(device, note)
        with torch.device("meta"):
            model = cls(args)
            model.world = world
            if world.size > 1:
                parallelize(cast(Decoder, model), sharding)
        if quantize is not None and not model.quantizable():
            raise UsageError(f"{folder}: {NOT_QUANTIZABLE}")
        with model.world.telling_failures(), open_checkpoint(folder, args) as checkpoint:
            if note is not None:
                for notice in checkpoint.notes:
                    note(notice)
            load_weights(
                model,
                checkpoint,
                device=device,
                dtype=dtype,
                rounding=Rounding(quantize, model.quantizable()) if quantize else None,
                progress=progress,
            )
        model.lay_out()
        return model.eval().requires_grad_(False)

    def lay_out(self) -> None:
        """Lay the weights as their device multiplies them best: after they were loaded or replaced, while nobody holds on to
        those that are copied."""
        if is_joined_on(self.device):
            self.join_matrices()
            torch.cuda.empty_cache()  # where they lay before

    def join_matrices(self) -> None:
        """Lay matrices that are multiplied by the same x under each other, so that one product serves them."""
        for module in self.modules():
            if isinstance(module, Attention | FeedForward | MoeFeedForward):
                module.join_matrices()

    def weight_slots(self) -> dict[str, Slot]:
        """Where each tensor of a native checkpoint goes: its published name -> parameter."""
        if self.slots is not None:
            return self.slots
        slots = {name: Slot(name, tuple(parameter.shape)) for name, parameter in self.named_parameters()}
        return slots if self.args.quantization is None else quantized_slots(slots, self.args, self.quantizable())

    def quantizable(self) -> set[str]:
        """The matrices that may be quantized, by the names of their parameters: those of the blocks, but not the router."""
        return {
            f"{name}.weight"
            for name, module in self.named_modules()
            if isinstance(module, Linear) and name.startswith("layers.") and not name.endswith(".gate")
            if module.in_features % COLUMNS_MULTIPLE == 0
        }

    @property
    def quant_format(self) -> QuantFormat | None:
        """What the matrices inside the blocks are quantized to, if they are."""
        quantized = (module.quantized for module in self.modules() if isinstance(module, Linear))
        return next((weight.format for weight in quantized if weight is not None), None)

    @property
    def matrix_itemsize(self) -> float:
        """Bytes per number of the matrices inside the blocks, scales included."""
        matrices = [cast(Linear, self.get_submodule(name.removesuffix(".weight"))) for name in self.quantizable()]
        nbytes = sum(parameter.nbytes for matrix in matrices for parameter in matrix.parameters())
        numbers = sum(matrix.in_features * matrix.out_features for matrix in matrices)
        return nbytes / numbers if numbers else self.dtype.itemsize

    @property
    def num_parameters(self) -> int:
        """Numbers in all weights, however many bits each has; the scales of quantized ones are none."""
        of_module = (
            module.weight.shape[0] * module.in_features
            if isinstance(module, Linear)
            else sum(parameter.numel() for parameter in module.parameters(recurse=False))
            for module in self.modules()
        )
        return sum(of_module)

    def quantize(self, quant_format: QuantFormat) -> None:
        """Round the matrices inside the blocks, one after the other (arXiv:2210.17323 calls it round-to-nearest).

        Raises:
            UsageError: if they are quantized already, or cannot be.
        """
        names = self.quantizable()
        if not names:
            raise UsageError(NOT_QUANTIZABLE)
        self._watches = []  # they hold on to the unrounded weights
        for name in sorted(names):
            linear = cast(Linear, self.get_submodule(name.removesuffix(".weight")))
            if linear.quantized is not None:
                raise UsageError("the weights are quantized already")
            linear.take(quantize_weight(linear.weight, quant_format))
        self.lay_out()

    def weights_version(self) -> int:
        """A number that changes when any weight has been replaced or written since the last call."""
        parameters = list(self.parameters())
        is_current = len(self._watches) == len(parameters) and all(
            watch.sees(parameter) for watch, parameter in zip(self._watches, parameters, strict=True)
        )
        if not is_current:
            self._watches = [TensorWatch(parameter) for parameter in parameters]
            self._weights_version += 1
        return self._weights_version

    @property
    def known_weights_version(self) -> int:
        """weights_version() as it was last found; nothing is looked at."""
        return self._weights_version

    def load_lora(self, path: str | Path, scaling: float = 2.0) -> None:
        """Merge a native LoRA file into the weights: W += scaling * B @ A (arXiv:2106.09685).

        Raises:
            AdapterError: if it does not fit this model; the weights are then as before.
        """
        with self.world.telling_failures():
            merge_lora(self, Path(path), scaling=scaling)


def _check_kernels(device: torch.device, note: Callable[[str], None] | None) -> None:
    """See whether Triton's kernels serve, before memory is taken; the first time on a GPU that takes minutes."""
    if note is not None and triton.is_check_due(device):
        note(f"checking the kernels on {device} against torch, once on this machine (up to a few minutes)")
    triton.reasons_against_triton(device)


def _device(device: torch.device | str | None) -> torch.device:
    """The device that is meant, with its number, checked by allocating on it."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros(1, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"device {str(device)!r} cannot be used: {str(error).splitlines()[0].split('. ')[0]}"
        ) from error
