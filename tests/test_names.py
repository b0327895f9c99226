"""The names that users import, and what importing them costs."""

import subprocess
import sys

import pytest


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import mistral_local",
        "import mistral_local.args",
        "import mistral_local.lora",
        "import mistral_local.tokenizer.tokenizer, mistral_local.tools.parser",
        "import mistral_local.cli.entry",
    ],
)
def test_imports_that_need_no_torch_do_not_load_it(code: str) -> None:
    assert run(f"{code}\nimport sys\nprint([m for m in ('torch', 'xformers') if m in sys.modules])") == "[]\n"


def test_loading_a_model_on_the_cpu_imports_nothing_of_xformers_and_warns_of_nothing() -> None:
    code = (
        "import sys, mistral_local\n"
        "llm = mistral_local.load(device='cpu')\n"
        "llm.complete('Hello', max_tokens=2)\n"
        "print('xformers' in sys.modules)"
    )
    assert run(code) == "False\n"


@pytest.mark.parametrize(
    "code",
    [
        "from mistral_local.transformer import Transformer",
        "from mistral_local.model import Transformer",
        "from mistral_local import Transformer, LLM, load",
        "from mistral_local.args import TransformerArgs, MoeArgs, LoraArgs, VisionEncoderArgs, MambaArgs",
        "from mistral_local.generate import generate",
        "from mistral_local.lora import LoraArgs",
        "from mistral_local.main import generate",
        "import mistral_local.generate; assert not callable(mistral_local.generate)",
    ],
)
def test_the_names_of_the_contract_import(code: str) -> None:
    run(code)


def test_the_package_exports_what_it_says() -> None:
    assert run("import mistral_local; print(sorted(mistral_local.__all__))") == (
        "['LLM', 'Transformer', '__version__', 'load', 'tool']\n"
    )
