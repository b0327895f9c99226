"""The console commands: check argv, run the function, and turn what happens into an exit code.

0 done, 1 failed while running, 2 usage, 3 checkpoint, 4 out of memory, 5 network, 6 checksum, 130 Ctrl-C,
141 the reader of stdout left, 143 SIGTERM. Nothing here or in the modules of the commands imports torch before the function of the command runs.
"""

import contextlib
import functools
import logging
import os
import sys
from collections.abc import Sequence

from mistral_local.cli.argv import call_with_fire, check_arguments
from mistral_local.cli.command import Command, flags_of, runs_program
from mistral_local.cli.console import Console
from mistral_local.cli.help import commands_text, help_text, version_text
from mistral_local.cli.interrupt import EXIT_INTERRUPTED, exit_on_terminate
from mistral_local.cli.nearest import did_you_mean
from mistral_local.errors import CheckpointError, MistralLocalError, UsageError
from mistral_local.parallel.launch import find_launch, is_told

EXIT_BROKEN_PIPE = 141


CHAT = Command(
    name="mistral-chat",
    target="mistral_local.cli.chat:chat",
    examples=(
        ("mistral-chat --instruct", "converse with the bundled demo checkpoint"),
        ("mistral-chat $M7B_DIR --instruct --max_tokens 256", "converse; answers of at most 256 tokens"),
        (
            "mistral-chat 7B_instruct --instruct -p 'Name three rivers'",
            "answer once; the folder is $MISTRAL_MODEL/7B_instruct",
        ),
        (
            "git diff | mistral-chat $M7B_DIR --instruct -p 'Review this' > review.md",
            "the diff, a blank line, the prompt",
        ),
        ("mistral-chat $M7B_DIR -p 'Once upon a time'", "complete text, without a chat template"),
        ("torchrun --nproc-per-node 2 --no-python mistral-chat $M8x7B_DIR --instruct", "on two GPUs"),
    ),
    shorts={
        "p": "prompt",
        "s": "system",
        "i": "instruct",
        "t": "temperature",
        "l": "lora_path",
        "n": "num_pipeline_ranks",
        "pipeline": "num_pipeline_ranks",
    },
)
DEMO = Command(
    name="mistral-demo",
    target="mistral_local.cli.demo:demo",
    examples=(
        ("mistral-demo", "run the bundled demo checkpoint"),
        ("mistral-demo $M7B_DIR", "see that a checkpoint works on this machine"),
        ("mistral-demo $M7B_DIR --lora_path lora.safetensors", "with an adapter merged into it"),
    ),
    shorts={
        "m": "max_tokens",
        "t": "temperature",
        "l": "lora_path",
        "n": "num_pipeline_ranks",
        "pipeline": "num_pipeline_ranks",
    },
)
SERVE = Command(
    name="mistral-serve",
    target="mistral_local.cli.serve:serve",
    examples=(
        ("mistral-serve", "serve the bundled demo checkpoint at http://127.0.0.1:8000"),
        ("mistral-serve $M7B_DIR --port 8080", "serve a checkpoint to this machine"),
        ("mistral-serve $M7B_DIR --host 0.0.0.0 --api_key_file key.txt", "serve it to others who have the key"),
        ("torchrun --nproc-per-node 2 --no-python mistral-serve $M8x7B_DIR", "on two GPUs"),
    ),
    shorts={"pipeline": "num_pipeline_ranks"},
)
BENCH = Command(
    name="mistral-bench",
    target="mistral_local.cli.bench:run",
    examples=(
        ("mistral-bench", "measure the bundled demo checkpoint"),
        ("mistral-bench $M7B_DIR", "measure a checkpoint on this machine"),
        ("mistral-bench throughput $M7B_DIR", "many requests at once; mistral-bench throughput --help says more"),
        ("mistral-bench serving $M7B_DIR --rate 2", "two requests a second; mistral-bench serving --help says more"),
        ("mistral-bench http $M7B_DIR", "the same over HTTP; mistral-bench http --help says more"),
        ("mistral-bench gpu", "random weights of the shape of Mistral 7B on a GPU; mistral-bench gpu --help says more"),
    ),
)
WORKLOADS = {
    "throughput": Command(
        name="mistral-bench throughput",
        target="mistral_local.cli.bench:throughput",
        examples=(
            ("mistral-bench throughput $M7B_DIR --num_requests 256", "256 requests as fast as they can be done"),
        ),
    ),
    "serving": Command(
        name="mistral-bench serving",
        target="mistral_local.cli.bench:serving",
        examples=(("mistral-bench serving $M7B_DIR --rate 2", "two requests a second, at random times"),),
    ),
    "http": Command(
        name="mistral-bench http",
        target="mistral_local.cli.bench:http",
        examples=(
            ("mistral-bench http", "what HTTP adds to the engine, with the bundled demo checkpoint"),
            ("mistral-bench http --url http://127.0.0.1:8000", "measure a server that runs already"),
        ),
    ),
    "gpu": Command(
        name="mistral-bench gpu",
        target="mistral_local.cli.bench_gpu:gpu",
        examples=(
            ("mistral-bench gpu --output 7b.json", "start, decode and prefill of the shape of Mistral 7B"),
            ("mistral-bench gpu --shapes mixtral --cells decode --quantize int4", "what four bits bring to Mixtral"),
            ("mistral-bench gpu --cells decode:1x1024 --profile", "which kernels one step spends its time in"),
        ),
    ),
}
DOWNLOAD = Command(
    name="mistral-download",
    target="mistral_local.cli.download:download",
    examples=(
        ("mistral-download --list", "the published archives"),
        ("mistral-download 7B-Instruct-v0.3", "into $MISTRAL_MODEL/7B-Instruct-v0.3; run again, it goes on"),
        ("mistral-download Codestral-22B-v0.1 ./codestral --accept_license", "into a folder of your choice"),
        ("mistral-download mistralai/Ministral-8B-Instruct-2410", "from a hub: the native files only"),
        ("mistral-download 7B-Instruct-v0.3 --verify_only", "check what was downloaded"),
    ),
)
LOCAL = {
    "explain": Command(
        name="mistral-local explain",
        target="mistral_local.cli.explain:explain",
        examples=(
            ("mistral-local explain request.json", "the tokens that the bundled demo checkpoint would get"),
            ("mistral-local explain request.json --model $M7B_DIR", "those of another checkpoint"),
            ("mistral-local explain --answer '[TOOL_CALLS]f[ARGS]{\"a\": 1}'", "how an answer is read"),
        ),
        shorts={"m": "model"},
    ),
    "plan": Command(
        name="mistral-local plan",
        target="mistral_local.cli.plan:plan",
        examples=(
            ("mistral-local plan $M8x7B_DIR", "what each GPU would hold, and how many are needed"),
            ("mistral-local plan $M8x22B_DIR --gpus 8 --gpu_memory 80GB --context 8192 --batch 32", "for these GPUs"),
        ),
    ),
    "quantize": Command(
        name="mistral-local quantize",
        target="mistral_local.cli.quantize:quantize",
        examples=(
            ("mistral-local quantize $M7B_DIR 7B-int8 int8", "a checkpoint of half the size, in a new folder"),
            ("mistral-local quantize $M8x7B_DIR 8x7B-int4 int4", "of little more than a quarter"),
        ),
    ),
    "verify": Command(
        name="mistral-local verify",
        target="mistral_local.cli.verify:verify",
        examples=(
            ("mistral-local verify", "check the bundled demo checkpoint"),
            ("mistral-local verify $M7B_DIR", "check a checkpoint: its weights, its tokenizer, and that they agree"),
        ),
    ),
    "run": Command(
        name="mistral-local run",
        target="mistral_local.cli.run:run",
        examples=(
            ("mistral-local run -- python code.py", "a program written for a hosted service, answered by this machine"),
            ("mistral-local run $M7B_DIR -- python code.py", "the same, with a server and a checkpoint of its own"),
            ("mistral-local run --url http://127.0.0.1:8080 -- bash", "a shell whose programs ask that server"),
        ),
    ),
    "env": Command(
        name="mistral-local env",
        target="mistral_local.cli.run:env",
        examples=(
            ("mistral-local env", 'eval "$(mistral-local env)" points whatever this shell starts to the server'),
            ("mistral-local env --url http://127.0.0.1:8080", "to a server at another address"),
        ),
    ),
}


def chat() -> int:
    """Run mistral-chat."""
    return run_command(CHAT, sys.argv[1:])


def demo() -> int:
    """Run mistral-demo."""
    return run_command(DEMO, sys.argv[1:])


def serve() -> int:
    """Run mistral-serve."""
    return run_command(SERVE, sys.argv[1:])


def bench() -> int:
    """Run mistral-bench, or one of its workloads."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in WORKLOADS:
        return run_command(WORKLOADS[arguments[0]], arguments[1:])
    return run_command(BENCH, arguments)


def download() -> int:
    """Run mistral-download."""
    return run_command(DOWNLOAD, sys.argv[1:])


def local() -> int:
    """Run mistral-local."""
    return run_local(sys.argv[1:])


def run_local(arguments: Sequence[str]) -> int:
    """Run one of mistral-local's commands and return its exit code."""
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", ())
    if name in LOCAL:
        return run_command(LOCAL[name], rest)
    if name == "--version":
        print(version_text())
        return 0
    if name in ("--help", "-h"):
        print(commands_text("mistral-local", LOCAL))
        return 0
    message = f"unknown command {name}{did_you_mean(name, LOCAL)} (mistral-local --help lists them)"
    return _report(UsageError(message), UsageError.exit_code)


def run_command(command: Command, arguments: Sequence[str]) -> int:
    """Run a command and return its exit code; every error becomes one line on stderr."""
    exit_on_terminate()
    _open_closed_streams()
    try:
        _run(command, list(arguments))
        sys.stdout.flush()
    except MistralLocalError as error:
        return _report(error, error.exit_code)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the user gets a line, --debug the traceback
        return _report(error, MistralLocalError.exit_code)
    finally:
        _abandon_unwritable_stdout()
    return 0


def _run(command: Command, arguments: list[str]) -> None:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own, after = arguments[:end], arguments[end:]
    if "--debug" in own:
        own.remove("--debug")
        logging.basicConfig(format="%(message)s", stream=sys.stderr)
        logging.getLogger("mistral_local").setLevel(logging.DEBUG)
    if "--version" in own:
        print(version_text())
        return
    if "--help" in own or "-h" in own:
        print(help_text(command))
        return
    function = command.load_function()
    if runs_program(function):
        if not after[1:]:
            raise UsageError(f"nothing to run: write the program after --, as in {command.name} -- python code.py")
        function, after = functools.partial(function, tuple(after[1:])), []
    flags = flags_of(function)
    try:
        given = check_arguments([*own, *after], flags, command.shorts)
    except UsageError as error:
        raise UsageError(f"{error} ({command.name} --help lists the flags)") from error
    call_with_fire(function, given, flags, command.name)


def _report(error: Exception, exit_code: int) -> int:
    """Say what went wrong; under torchrun rank 0 does, for all ranks."""
    launch = find_launch()
    is_said = is_told(error) or (isinstance(error, UsageError | CheckpointError) and not launch.speaks_for_machine)
    if launch.is_follower and is_said:
        return exit_code
    with contextlib.suppress(OSError):  # stderr itself may be gone
        Console().error(error)
    return exit_code


def _open_closed_streams() -> None:
    """Give a process that was started with stdout or stderr closed somewhere to write."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - lives as long as the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _abandon_unwritable_stdout() -> None:
    """Point stdout at nothing if its reader is gone or its disk is full, so that the exit flush cannot fail again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
