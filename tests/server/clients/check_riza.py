"""rizaio, with nothing but the environment."""

import rizaio
from questions import raised

client = rizaio.Riza(max_retries=0)


def check_a_program_runs():
    files = [{"path": "a.txt", "contents": "from a file"}]
    code = "import os\nprint(open('a.txt').read(), os.environ['X'], input())"
    done = client.command.exec(language="PYTHON", code=code, files=files, env={"X": "env"}, stdin="in\n")
    assert (done.stdout, done.stderr, done.exit_code) == ("from a file env in\n", "", 0)
    assert isinstance(done.duration, int)
    assert done.id


def check_a_program_that_fails_has_a_positive_exit_code():
    failed = client.command.exec(language="python", code="raise ValueError('no')")
    assert failed.exit_code > 0
    assert "ValueError: no" in failed.stderr
    killed = client.command.exec(language="python", code="while True: pass", limits={"execution_timeout": 1})
    assert killed.exit_code > 0


def check_there_is_no_network():
    code = "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:80')"
    assert client.command.exec(language="python", code=code).exit_code > 0


def check_a_function_returns_its_output():
    code = "def execute(input):\n    return {'sum': sum(input['numbers'])}"
    done = client.command.exec_func(language="python", code=code, input={"numbers": [1, 2, 3]})
    assert (done.output, done.output_status, done.execution.exit_code) == ({"sum": 6}, "valid", 0)


def check_errors_have_their_class_and_message():
    execute = client.command.exec
    assert "only python" in str(raised(rizaio.BadRequestError, execute, language="RUBY", code="1"))
    wrong = client.with_options(api_key="wrong").command.exec
    assert "API key" in str(raised(rizaio.AuthenticationError, wrong, language="PYTHON", code="1"))
