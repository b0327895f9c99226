"""mistral-local verify: check a checkpoint folder."""

from mistral_local.cli.console import Color, Console, can_redraw
from mistral_local.cli.model_folder import find_model_folder
from mistral_local.errors import CheckpointError


def verify(model_path: str | None = None, *, color: Color = "auto") -> None:
    """check a checkpoint folder: params, tensors, tokenizer, and that they agree

    Args:
        model_path: checkpoint folder, or its name in $MISTRAL_MODEL; without it the bundled demo checkpoint is checked
        color: when to use colours; auto means on a terminal, unless NO_COLOR is set

    Raises:
        CheckpointError: if a check fails; the report has been printed then.
    """
    console = Console(color)
    folder = find_model_folder(model_path)
    from mistral_local.demo.locate import demo_checkpoint
    from mistral_local.inspect.verify import verify as verify_folder  # imports torch

    def progress(done: int, total: int) -> None:
        if can_redraw(console):
            console.raw_err(f"\r{done} of {total} tensors" if done < total else "\r\x1b[K")

    findings = []
    for finding in verify_folder(folder or demo_checkpoint(), progress=progress):
        findings.append(finding)
        console.answer(f"{'ok  ' if finding.is_good else 'FAIL'} {finding.check:<14} {finding.detail}\n")
    num_bad = sum(not finding.is_good for finding in findings)
    if num_bad:
        raise CheckpointError(f"{num_bad} of {len(findings)} checks failed")
