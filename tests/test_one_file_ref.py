"""one_file_ref.py as a program, and mistral-demo beside it."""

import subprocess
import sys
from pathlib import Path

import pytest

from mistral_local.cli.demo import demo
from mistral_local.demo.locate import demo_checkpoint

ROOT = Path(__file__).parent.parent


def run_oracle(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "one_file_ref", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_it_prints_what_mistral_demo_prints(capsys: pytest.CaptureFixture[str]) -> None:
    oracle = run_oracle(str(demo_checkpoint()), "--max_tokens", "12")
    assert oracle.returncode == 0, oracle.stderr
    demo(max_tokens=12)
    printed = capsys.readouterr().out
    assert printed.count("=====================") == 3
    assert oracle.stdout.split() == printed.split()


def test_it_imports_nothing_of_mistral_local() -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import one_file_ref; print('mistral_local' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr


def test_a_folder_without_weights_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "tekken.json").write_bytes((demo_checkpoint() / "tekken.json").read_bytes())
    done = run_oracle(str(tmp_path))
    assert done.returncode != 0
    assert done.stderr.startswith("Error: no consolidated*.safetensors")
    assert done.stderr.count("\n") == 1
