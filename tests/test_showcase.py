"""make demo: a chat answer, a completion and function calls, soon on the screen."""

import subprocess
import sys
import textwrap
import time


def test_the_first_token_is_on_the_screen_within_eight_seconds_and_all_within_sixty() -> None:
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "mistral_local.cli.showcase"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        shown = ""
        first_answer_s = None
        for line in process.stdout:
            shown += line
            if first_answer_s is None and line.startswith("["):  # the numbers after the first answer
                first_answer_s = time.perf_counter() - start
    assert process.returncode == 0
    assert first_answer_s is not None
    assert first_answer_s < 8
    assert time.perf_counter() - start < 60
    assert shown.count("--- Chat") == 2
    assert "--- Fill in the middle" in shown
    assert shown.count("exec_python\n  code: ") == 2
    for call in shown.split("exec_python\n  code: ")[1:]:
        compile(textwrap.dedent(call.split("\n[")[0]), "shown code", "exec")
