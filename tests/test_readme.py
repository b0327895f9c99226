"""The README's Python examples, run as written, and the commands it shows."""

import json
import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def python_examples() -> list[str]:
    return re.findall(r"```py\n(.*?)```", README, flags=re.DOTALL)


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_text_example_chats_completes_and_streams() -> None:
    out = run(python_examples()[0])
    assert "Finished(" in out


def test_the_tool_example_runs_the_function() -> None:
    out = run("\n".join(python_examples()[:2]))
    assert "21 degrees in" in out.splitlines()[-1]


def test_the_token_examples_follow_instructions_call_a_function_fill_in_and_run_many() -> None:
    *examples, engine = python_examples()[2:]
    out = run("\n".join([*examples, "print('-----')", engine]))
    out, many = out.split("-----\n")
    assert float(many.split()[-1]) > 0.5, "64 prompts with a common beginning"
    answer, call, function = out.split("\n", 1)[0], out, out[out.index("def add(") :]
    assert answer.strip()
    name, arguments = call.split("[TOOL_CALLS]")[1].split("\n")[0].split("[ARGS]")
    assert name == "get_current_weather"
    assert set(json.loads(arguments)) <= {"location", "format"}
    compile(function, "README", "exec")


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"make ([a-z-]+)", README))
    assert targets >= {"demo", "test", "check", "test-all", "test-gpu"}
    assert targets <= set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
