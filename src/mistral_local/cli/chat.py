"""mistral-chat: converse with a model, or complete text."""

import contextlib
import sys

from mistral_local.cli.approval import Approval, Approve
from mistral_local.cli.console import Color, Console, can_redraw
from mistral_local.cli.conversation import Conversation, check_text
from mistral_local.cli.interrupt import EXIT_INTERRUPTED
from mistral_local.cli.interrupt_key import InterruptKey
from mistral_local.cli.loading import find_placement, follow, load_model
from mistral_local.cli.prompt_source import find_prompt
from mistral_local.cli.session import Session
from mistral_local.cli.terminal_keys import silent_keyboard
from mistral_local.cli.toolbox import Toolbox, open_toolbox
from mistral_local.cli.writers import JsonWriter
from mistral_local.config import KVDtype, QuantFormat, SandboxBackend, Speculation
from mistral_local.errors import UsageError
from mistral_local.parallel.launch import find_launch
from mistral_local.tasks.options import GenerationOptions


def chat(
    model_path: str | None = None,
    *,
    instruct: bool = False,
    prompt: str | None = None,
    system: str | None = None,
    max_tokens: int | None = None,
    temperature: float = 0.7,
    top_p: float = 0.8,
    seed: int | None = None,
    lora_path: str | None = None,
    quantize: QuantFormat | None = None,
    tools: str | None = None,
    python: bool = False,
    sandbox: SandboxBackend = "bubblewrap",
    sandbox_python: str | None = None,
    approve: Approve = "ask",
    device: str | None = None,
    dtype: str | None = None,
    num_threads: int | None = None,
    max_context: int | None = None,
    kv_memory: str | None = None,
    kv_dtype: KVDtype = "auto",
    speculate: Speculation = "off",
    deterministic: bool = False,
    num_pipeline_ranks: int = 1,
    expert_parallel: bool = False,
    stats: bool = False,
    json: bool = False,
    history: bool = True,
    color: Color = "auto",
) -> None:
    """converse with a model, or complete text

    Args:
        model_path: checkpoint folder, or its name in $MISTRAL_MODEL; without it the bundled demo checkpoint is used
        instruct: converse in turns; without it each text is completed by itself
        prompt: answer this one prompt and leave; piped text comes before it, or is the prompt without -p
        system: system prompt of the conversation
        max_tokens: most new tokens per answer; without it an answer ends where the model ends it or the context is full
        temperature: 0 picks the likeliest token, more is more varied
        top_p: sample from the likeliest tokens that make up this probability, above 0 and at most 1
        seed: whole number that makes the sampling repeatable
        lora_path: LoRA adapter (safetensors file) to merge into the weights
        quantize: int8, int4 or fp8 rounds the weights while they are read; without it they stay as stored
        tools: FILE.py whose @tool functions the model may call, or a JSON file of tools as in the Mistral API, whose calls are shown and not run
        python: let the model run Python in the sandbox, by the tool exec_python
        sandbox: bubblewrap, or wasm where that cannot be; wasm is slower and lacks some of Python
        sandbox_python: interpreter in the sandbox; without it this one, or /usr/bin/python3 if it is root's alone
        approve: ask before each call is run, or run them all
        device: cpu, cuda, cuda:1 ...; without it cuda if there is one
        dtype: float32, bfloat16 or float16; without it as stored
        num_threads: CPU threads; without it as many as torch takes, and one for a tiny model
        max_context: context length in tokens; without it that of the checkpoint
        kv_memory: memory of the KV cache, such as 4GB; without it what the context needs, as far as memory is free
        kv_dtype: fp8 stores keys and values in half the memory, rounded; auto as the model computes
        speculate: ngram guesses words that occurred before and verifies them; the text is the same, code edits are faster
        deterministic: the same bits for a request whatever runs beside it; bfloat16 on a CPU only, and slower prompts
        num_pipeline_ranks: under torchrun, stages that the layers are divided into; the ranks of a stage share each layer
        expert_parallel: under torchrun, let ranks hold different experts instead of a part of each
        stats: show tokens, time to first token and tok/s after each answer, on stderr
        json: print one answer as a JSON object with text, tool_calls, finish_reason and usage
        history: keep the typed prompts in ~/.local/state/mistral_local/history
        color: when to use colours; auto means on a terminal, unless NO_COLOR is set

    Raises:
        UsageError, RequestError: if the flags cannot be; nothing has been loaded then.
        SystemExit: 130 for an answer stopped by Ctrl-C, or two Ctrl-C in the dialogue; for these 0 among several ranks,
            because torchrun reports everything else as a failure.
    """
    console = Console(color)
    folder = find_placement(model_path, num_pipeline_ranks)
    options = GenerationOptions(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
    how = {
        "device": device,
        "dtype": dtype,
        "num_threads": num_threads,
        "max_context": max_context,
        "kv_memory": kv_memory,
        "kv_dtype": kv_dtype,
        "speculate": speculate,
        "deterministic": deterministic,
        "lora_path": lora_path,
        "quantize": quantize,
        "num_pipeline_ranks": num_pipeline_ranks,
        "expert_parallel": expert_parallel,
    }
    follow(folder, **how)
    conversation = _conversation(instruct=instruct, system=system, tools=tools, python=python)
    toolbox = open_toolbox(tools, python=python, sandbox=sandbox, sandbox_python=sandbox_python)
    one_prompt = find_prompt(prompt, console.note)
    keys = InterruptKey(is_needed=find_launch().world_size > 1)
    approval = _approval(console, approve, toolbox, keys)
    if json and one_prompt is None:
        raise UsageError("--json prints one answer: give the prompt by -p or through a pipe")

    is_drawn = one_prompt is None and can_redraw(console)
    with silent_keyboard() if is_drawn else contextlib.nullcontext():
        model = load_model(folder, console, **how)
        with contextlib.closing(model), keys.owning():
            session = Session(
                model,
                console,
                options,
                conversation=conversation,
                toolbox=toolbox,
                approve=approval,
                shows_stats=stats,
                keys=keys,
            )
            if one_prompt is None:
                _converse(session, keeps_history=history)
            else:
                _answer_once(session, one_prompt, as_json=json)


def _approval(console: Console, mode: Approve, toolbox: Toolbox | None, keys: InterruptKey) -> Approval | None:
    """Return what decides about calls; None if none are run."""
    if toolbox is None or toolbox.registry is None:
        return None
    return Approval(console, mode, may_ask=sys.stdin is not None and sys.stdin.isatty(), keys=keys)


def _conversation(*, instruct: bool, system: str | None, tools: str | None, python: bool) -> Conversation | None:
    """Return the empty conversation; None if text is completed, where a system prompt or tools have no place."""
    if instruct:
        return Conversation(check_text("the system prompt", system) if system is not None else None)
    for flag, value in (("--system", system), ("--tools", tools), ("--python", python or None)):
        if value is not None:
            raise UsageError(f"{flag} needs --instruct: without it text is completed")
    return None


def _answer_once(session: Session, prompt: str, *, as_json: bool) -> None:
    turn = session.ask(prompt, JsonWriter(session.console) if as_json else None)
    if turn.finished is None:
        raise SystemExit(EXIT_INTERRUPTED)


def _converse(session: Session, *, keeps_history: bool) -> None:
    from mistral_local.cli.chat_loop import open_editor, run_chat  # prompt_toolkit takes a while to import

    session.console.note(session.model.describe())
    how = "converse" if session.conversation is not None else "each text is completed; --instruct converses"
    session.console.note(f"{how}; /help lists the commands, Ctrl-D leaves")
    run_chat(session, open_editor(session, keeps_history=keeps_history))
