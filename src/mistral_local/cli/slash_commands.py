"""What a line that begins with a slash does in mistral-chat."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import get_type_hints

from mistral_local.cli.conversation import Conversation, check_text, read_json
from mistral_local.cli.nearest import did_you_mean
from mistral_local.cli.session import Session
from mistral_local.cli.values import FALSE_WORDS, TRUE_WORDS, parse_value
from mistral_local.cli.writers import stats_line, to_json
from mistral_local.errors import UsageError
from mistral_local.tasks.options import GenerationOptions

_COMMAND = re.compile(r"\s*/([a-z]+|\?)(?:\s+(.*))?\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SlashCommand:
    """One command.

    Attributes:
        argument: how its argument is written in /help.
        run: receives the session and the text after the command's name.
    """

    name: str
    argument: str
    meaning: str
    run: Callable[[Session, str], None]


def parse_command(text: str) -> tuple[str, str] | None:
    """Split `/name rest` into name and rest; None if the text is no command: `/usr/bin is a folder` is a message.

    >>> parse_command("/set temperature 0.3 ")
    ('set', 'temperature 0.3')
    """
    match = _COMMAND.fullmatch(text)
    return (match[1], (match[2] or "").strip()) if match else None


def run_command(session: Session, name: str, argument: str) -> None:
    """Run a slash command.

    Raises:
        UsageError: if there is no such command, or its argument cannot be.
        EOFError: to leave the chat.
    """
    name = {"?": "help", "quit": "exit"}.get(name, name)
    commands = {command.name: command for command in COMMANDS}
    if name not in commands:
        raise UsageError(f"unknown command /{name}{did_you_mean(name, commands, prefix='/')} (/help lists them)")
    if argument and not commands[name].argument:
        raise UsageError(f"/{name} takes no argument, got {argument!r}")
    commands[name].run(session, argument)


NOT_TYPED = frozenset({"logit_bias", "logprobs", "top_logprobs", "json_schema"})
"""Options that nobody types after /set: token ids are not known by heart, logprobs are not shown, /json has a schema."""


def changed_option(options: GenerationOptions, name: str, text: str) -> GenerationOptions:
    """Return the options with one changed.

    Raises:
        UsageError: if there is no such option, or the text is no value of its type.
        RequestError: if the value is out of range.
    """
    kinds = {name: kind for name, kind in get_type_hints(GenerationOptions).items() if name not in NOT_TYPED}
    if name not in kinds:
        raise UsageError(f"unknown setting {name}{did_you_mean(name, kinds)} (there are {', '.join(kinds)})")
    return replace(options, **{name: parse_value(name, kinds[name], text)})


def _conversation(session: Session) -> Conversation:
    if session.conversation is None:
        raise UsageError("there is no conversation: without --instruct each text is completed by itself")
    return session.conversation


def _help(session: Session, argument: str) -> None:
    for command in COMMANDS:
        session.console.note(f"  {f'/{command.name} {command.argument}':<22}{command.meaning}")
    session.console.note(
        'Ctrl-J or Alt-Enter begins a new line, """ encloses several; Ctrl-C stops an answer, Ctrl-D leaves.'
    )


def _reset(session: Session, argument: str) -> None:
    _conversation(session).reset()
    session.console.note("(the conversation is empty)")


def _system(session: Session, argument: str) -> None:
    conversation = _conversation(session)
    if argument:
        conversation.system = None if argument == "-" else check_text("the system prompt", argument)
    session.console.note(f"system: {conversation.system or '(none)'}")


def _undo(session: Session, argument: str) -> None:
    text = _conversation(session).undo()
    session.console.note(f"(taken back: {text if len(text) <= 60 else text[:59] + '…'})")


def _retry(session: Session, argument: str) -> None:
    _conversation(session)
    session.retry()


def _set(session: Session, argument: str) -> None:
    name, _, text = argument.partition(" ")
    if name and not text.strip():
        raise UsageError(f"/set {name} needs a value")
    if name:
        session.options = changed_option(session.options, name.replace("-", "_"), text.strip())
    for field in fields(session.options):
        if field.name == name.replace("-", "_") or (not name and field.name not in NOT_TYPED):
            session.console.note(f"{field.name} = {getattr(session.options, field.name)}")


def _save(session: Session, argument: str) -> None:
    conversation = _conversation(session)
    if not argument:
        raise UsageError("/save needs a file name")
    if not conversation.messages:
        raise UsageError("nothing has been said yet, so there is nothing to save")
    path = Path(argument).expanduser()
    conversation.save(path)
    session.console.note(f"({len(conversation.messages)} messages saved to {path})")


def _load(session: Session, argument: str) -> None:
    conversation = _conversation(session)
    if not argument:
        raise UsageError("/load needs a file name")
    conversation.load(Path(argument).expanduser())
    session.console.note(f"({len(conversation.messages)} messages loaded)")


def _tokens(session: Session, argument: str) -> None:
    _conversation(session)
    session.console.note(session.meter(session.count_tokens()))


def _stats(session: Session, argument: str) -> None:
    if argument.lower() in TRUE_WORDS or argument.lower() in FALSE_WORDS:
        session.shows_stats = argument.lower() in TRUE_WORDS
        session.console.note(f"(numbers after each answer: {'on' if session.shows_stats else 'off'})")
    elif argument:
        raise UsageError(f"/stats: expected on or off, got {argument!r}")
    else:
        session.console.note(stats_line(session.last_usage) if session.last_usage else "no answer has ended yet")


def _tools(session: Session, argument: str) -> None:
    if session.toolbox is None:
        session.console.note("no tools; --tools FILE.py and --python give some")
        return
    for tool in session.toolbox.definitions:
        function = tool["function"]
        session.console.note(f"  {function['name']:<22}{str(function.get('description', '')).partition(chr(10))[0]}")
    if session.toolbox.registry is None:
        session.console.note("calls are shown, not run")


GAP = "<FILL>"


def _fim(session: Session, argument: str) -> None:
    prefix, gap, suffix = argument.partition(GAP)
    if not gap or not (prefix or suffix):
        raise UsageError(f"/fim: write {GAP} where something is missing, as in /fim def add({GAP}return a + b")
    session.fill(check_text("the text", prefix), check_text("the text", suffix))


def _json(session: Session, argument: str) -> None:
    if argument in FALSE_WORDS:
        session.options = replace(session.options, json_schema=None)
    elif argument:
        schema = {"type": "object"} if argument == "object" else _read_schema(argument)
        session.options = replace(session.options, json_schema=schema)
    schema = session.options.json_schema
    session.console.note("answers are free" if schema is None else f"answers are JSON: {to_json(schema)}")


def _read_schema(argument: str) -> dict[str, object]:
    """Read a schema that was typed, or that a file holds."""
    if not argument.startswith("{"):
        schema = read_json(Path(argument).expanduser())
    else:
        try:
            schema = json.loads(argument)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"/json: no JSON: {error}") from error
    if not isinstance(schema, dict):
        raise UsageError("/json: a schema is a JSON object")
    return schema


def _exit(session: Session, argument: str) -> None:
    raise EOFError


COMMANDS = (
    SlashCommand("help", "", "list the commands", _help),
    SlashCommand("reset", "", "forget the conversation, keep the system prompt", _reset),
    SlashCommand("system", "[TEXT]", "show or change the system prompt; - removes it", _system),
    SlashCommand("undo", "", "take back the last message and its answer", _undo),
    SlashCommand("retry", "", "answer the last message again", _retry),
    SlashCommand("set", "[NAME VALUE]", "show or change max_tokens, temperature, top_p, seed, stop", _set),
    SlashCommand("save", "FILE", "write the conversation as JSON", _save),
    SlashCommand("load", "FILE", "go on with a saved conversation", _load),
    SlashCommand("tools", "", "list the functions that the model may call", _tools),
    SlashCommand("json", "[SCHEMA|off]", "answer by JSON: a schema as {...} or FILE, or object", _json),
    SlashCommand("fim", "TEXT", "write what belongs where TEXT has <FILL>", _fim),
    SlashCommand("tokens", "", "show how full the context is", _tokens),
    SlashCommand(
        "stats", "[on|off]", "show tokens, time to first token and tok/s of the last answer, or of each", _stats
    ),
    SlashCommand("exit", "", "leave, as Ctrl-D does", _exit),
)
