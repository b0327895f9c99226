"""mistral-chat: converse with a model, or complete text."""

import contextlib
from pathlib import Path

from mistral_local.cli.console import Color, Console, can_redraw
from mistral_local.cli.conversation import Conversation, Tool, check_text, read_json
from mistral_local.cli.interrupt import EXIT_INTERRUPTED
from mistral_local.cli.loading import find_placement, load_model
from mistral_local.cli.prompt_source import find_prompt
from mistral_local.cli.session import Session
from mistral_local.cli.terminal_keys import silent_keyboard
from mistral_local.cli.writers import JsonWriter
from mistral_local.errors import UsageError
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
    tools: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    num_threads: int | None = None,
    max_context: int | None = None,
    num_pipeline_ranks: int = 1,
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
        tools: JSON file with a list of tools as in the Mistral API; calls are shown, not executed
        device: cpu, cuda, cuda:1 ...; without it cuda if there is one
        dtype: float32, bfloat16 or float16; without it as stored
        num_threads: CPU threads; without it as many as torch takes, and one for a tiny model
        max_context: context length in tokens; without it that of the checkpoint
        num_pipeline_ranks: number of GPUs in a row; only 1 for now
        stats: show tokens, time to first token and tok/s after each answer, on stderr
        json: print one answer as a JSON object with text, tool_calls, finish_reason and usage
        history: keep the typed prompts in ~/.local/state/mistral_local/history
        color: when to use colours; auto means on a terminal, unless NO_COLOR is set

    Raises:
        UsageError, RequestError: if the flags cannot be; nothing has been loaded then.
        SystemExit: 130 for an answer stopped by Ctrl-C, or two Ctrl-C in the dialogue.
    """
    console = Console(color)
    folder = find_placement(model_path, num_pipeline_ranks)
    options = GenerationOptions(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
    conversation = _conversation(instruct=instruct, system=system, tools=tools)
    tool_list = read_tools(Path(tools)) if tools is not None else None
    one_prompt = find_prompt(prompt, console.note)
    if json and one_prompt is None:
        raise UsageError("--json prints one answer: give the prompt by -p or through a pipe")

    is_drawn = one_prompt is None and can_redraw(console)
    with silent_keyboard() if is_drawn else contextlib.nullcontext():
        model = load_model(
            folder,
            console,
            device=device,
            dtype=dtype,
            num_threads=num_threads,
            max_context=max_context,
            lora_path=lora_path,
        )
        with contextlib.closing(model):
            session = Session(model, console, options, conversation=conversation, tools=tool_list, shows_stats=stats)
            if one_prompt is None:
                _converse(session, keeps_history=history)
            else:
                _answer_once(session, one_prompt, as_json=json)


def read_tools(path: Path) -> list[Tool]:
    """Read a list of tools.

    Raises:
        UsageError: if the file holds none; the message says which entry is wrong.
    """
    tools = read_json(path)
    if not isinstance(tools, list) or not tools:
        raise UsageError(f"{path}: expected a list of tools")
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UsageError(f'{path}: tool {index} is not {{"type": "function", "function": {{"name": ...}}}}')
    return tools


def _conversation(*, instruct: bool, system: str | None, tools: str | None) -> Conversation | None:
    """Return the empty conversation; None if text is completed, where a system prompt or tools have no place."""
    if instruct:
        return Conversation(check_text("the system prompt", system) if system is not None else None)
    for flag, value in (("--system", system), ("--tools", tools)):
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
