"""mistral-local quantize: write a checkpoint of fewer bits per weight."""

from pathlib import Path

from mistral_local.cli.console import Color, Console, can_redraw
from mistral_local.cli.model_folder import find_model_folder
from mistral_local.config import QUANT_FORMATS, QuantFormat
from mistral_local.errors import UsageError
from mistral_local.hub.space import gigabytes


def quantize(
    model_path: str | None = None,
    output: str | None = None,
    quant_format: QuantFormat | None = None,
    *,
    color: Color = "auto",
) -> None:
    """write a checkpoint whose matrices are rounded to int8, int4 or fp8

    Args:
        model_path: checkpoint folder, or its name in $MISTRAL_MODEL
        output: new folder
        quant_format: int8, int4 or fp8
        color: when to use colours; auto means on a terminal, unless NO_COLOR is set
    """
    if model_path is None or output is None or quant_format is None:
        raise UsageError("quantize needs a checkpoint, a new folder and a format: mistral-local quantize DIR OUT int8")
    if quant_format not in QUANT_FORMATS:
        raise UsageError(f"expected {', '.join(QUANT_FORMATS)}, got {quant_format}")
    console = Console(color)
    folder = find_model_folder(model_path)
    assert folder is not None
    from mistral_local.inspect.quantize import quantize_checkpoint  # imports torch

    def progress(done: int, total: int) -> None:
        if can_redraw(console):
            console.raw_err(f"\r{done} of {total} tensors" if done < total else "\r\x1b[K")

    report = quantize_checkpoint(folder, Path(output), quant_format, progress=progress)
    console.answer(
        f"{output}: {gigabytes(report.bytes_after)}, before {gigabytes(report.bytes_before)}; "
        f"{report.num_matrices} matrices in {quant_format}, relative error {report.mean_error:.2%} on average, "
        f"{report.worst_error:.2%} at most ({report.worst})\n"
    )
