"""Read a message from the person at the terminal; all that is drawn goes to stderr."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input.typeahead import store_typeahead
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.output import ColorDepth, create_output
from prompt_toolkit.shortcuts import CompleteStyle

from mistral_local.cli.interrupt import terminate_by_interrupt
from mistral_local.cli.interrupt_key import InterruptKey
from mistral_local.cli.multiline import is_open

PROMPT, CONTINUATION = "> ", ". "


class Editor(Protocol):
    """Reads messages."""

    def read(self) -> str:
        """Return the next message; KeyboardInterrupt for Ctrl-C, EOFError for Ctrl-D."""
        ...

    @property
    def had_text(self) -> bool:
        """Whether something was typed when Ctrl-C came."""
        ...


class TerminalEditor:
    """Line editing, history, completion of commands, messages of several lines."""

    def __init__(self, history: History, completer: Completer, keys: InterruptKey | None = None) -> None:
        self._keys = keys or InterruptKey(is_needed=False)
        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            prompt_continuation=CONTINUATION,
            multiline=True,
            key_bindings=_key_bindings(),
            history=history,
            completer=completer,
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            enable_suspend=True,
            enable_open_in_editor=True,
            color_depth=ColorDepth.DEPTH_1_BIT,
            output=create_output(stdout=sys.stderr),
        )

    def read(self) -> str:
        """Return the next message."""
        with self._keys.paused(), terminate_by_interrupt():
            self._type_ahead(self._keys.take_typed())
            return self._session.prompt()

    def _type_ahead(self, text: str) -> None:
        """Begin the message with what was typed before it was asked for."""
        presses: list[KeyPress] = []
        parser = Vt100Parser(presses.append)
        parser.feed(text)
        parser.flush()
        store_typeahead(self._session.app.input, presses)

    @property
    def had_text(self) -> bool:
        """Whether something was typed when Ctrl-C came."""
        return bool(self._session.default_buffer.text)


class LineEditor:
    """Plain lines, for a terminal that cannot be drawn on."""

    had_text = False

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def read(self) -> str:
        """Return the next line, or the lines up to the closing fence."""
        text = self._line(PROMPT)
        while is_open(text):
            text += "\n" + self._line(CONTINUATION)
        return text

    def _line(self, prompt: str) -> str:
        self._write(prompt)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n")


class PrivateFileHistory(FileHistory):
    """A history file that only its owner may read; when it cannot be written, the chat goes on without it."""

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        super().__init__(str(path))
        self._warn = warn
        self._is_writable = True

    def store_string(self, string: str) -> None:
        """Append a message."""
        if not self._is_writable:
            return
        try:
            super().store_string(string)
        except (OSError, UnicodeError) as error:
            self._is_writable = False
            self._warn(f"(the history is not kept: {error})")


def open_history(path: Path | None, warn: Callable[[str], None]) -> History:
    """Open the history file, created with mode 0600; without a path, or if that fails, the history lives in memory."""
    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        warn(f"(the history is not kept: {error.strerror}: {path})")
        return InMemoryHistory()
    return PrivateFileHistory(path, warn)


class CommandCompleter(Completer):
    """Completes `/na` to command names, `/set na` to settings, `/save fi`, `/load fi` and `/json fi` to files."""

    def __init__(self, commands: Iterable[str], settings: Iterable[str]) -> None:
        self._commands = sorted(commands)
        self._settings = list(settings)
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yield what the word before the cursor can become."""
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        name, has_argument, argument = text[1:].partition(" ")
        if not has_argument:
            yield from _beginning_with(name, self._commands)
        elif name == "set" and " " not in argument:
            yield from _beginning_with(argument, self._settings)
        elif name in ("save", "load", "json"):
            yield from self._paths.get_completions(Document(argument), complete_event)


def _beginning_with(start: str, words: Iterable[str]) -> Iterator[Completion]:
    return (Completion(word, start_position=-len(start)) for word in words if word.startswith(start))


def _key_bindings() -> KeyBindings:
    """Enter sends, unless a fence is open; Ctrl-J and Alt-Enter begin a new line."""
    bindings = KeyBindings()

    @bindings.add("enter")
    def _send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_open(buffer.text):
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @bindings.add("c-j")
    @bindings.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    return bindings
