"""The messages of a conversation: asked, kept, taken back, saved and loaded."""

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mistral_local.errors import RequestError, UsageError
from mistral_local.tasks.outputs import ToolCall, answer_message

Message = dict[str, Any]
Tool = dict[str, Any]

ROLES = ("system", "user", "assistant", "tool")
NOT_EXECUTED = "error: tools are not executed here"


class Conversation:
    """Messages in the form of the Mistral API; it changes only once an answer exists.

    Attributes:
        messages: a system message perhaps, then exchanges of a user message and its answer.
    """

    def __init__(self, system: str | None = None) -> None:
        self.messages: list[Message] = []
        self.system = system

    @property
    def system(self) -> str | None:
        """The system prompt, if there is one."""
        return self.messages[0]["content"] if self._has_system() else None

    @system.setter
    def system(self, text: str | None) -> None:
        rest = self.messages[1:] if self._has_system() else self.messages
        self.messages = ([{"role": "system", "content": text}] if text else []) + rest

    def asking(self, text: str) -> list[Message]:
        """Return the messages to send for a new user turn; tool calls left open are answered by NOT_EXECUTED."""
        return [*self.messages, *_unanswered_calls(self.messages), {"role": "user", "content": text}]

    def asking_again(self) -> list[Message]:
        """Return the messages to send for another answer to the last user turn.

        Raises:
            UsageError: if there is none.
        """
        return self.messages[: self._last_user() + 1]

    def keep(self, sent: Sequence[Message], text: str, tool_calls: Sequence[ToolCall], reasoning: str = "") -> None:
        """Make the messages that were sent, and their answer, the conversation."""
        self.messages = [*sent, answer_message(text, reasoning, tool_calls)]

    def undo(self) -> str:
        """Remove the last exchange and return its user text.

        Raises:
            UsageError: if there is none.
        """
        first = last = self._last_user()
        while first > 0 and self.messages[first - 1].get("content") == NOT_EXECUTED:
            first -= 1
        text = self.messages[last]["content"]
        del self.messages[first:]
        return str(text)

    def reset(self) -> None:
        """Remove all but the system prompt."""
        self.messages = self.messages[:1] if self._has_system() else []

    def save(self, path: Path) -> None:
        """Write the messages as JSON, all or nothing; a file that is no saved conversation is not overwritten.

        Raises:
            UsageError: if the file cannot be written.
        """
        if path.exists():
            try:
                read_messages(path)
            except (UsageError, RequestError) as error:
                raise UsageError(f"{path} exists and is no saved conversation; choose another name") from error
        try:
            _write_atomically(path, json.dumps({"messages": self.messages}, ensure_ascii=False, indent=2) + "\n")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error

    def load(self, path: Path) -> None:
        """Replace the messages by those of a file; on an error nothing changes.

        Raises:
            UsageError: if the file cannot be read or holds no conversation.
        """
        self.messages = read_messages(path)

    def _has_system(self) -> bool:
        return bool(self.messages) and self.messages[0]["role"] == "system"

    def _last_user(self) -> int:
        for index in range(len(self.messages) - 1, -1, -1):
            if self.messages[index]["role"] == "user":
                return index
        raise UsageError("there is no message yet")


def read_messages(path: Path) -> list[Message]:
    """Read a saved conversation: a list of messages, or an object with the list under "messages".

    Raises:
        UsageError: if the file cannot be read or a message is none; the error says which.
        RequestError: if a text is not Unicode.
    """
    content = read_json(path)
    messages = content.get("messages") if isinstance(content, dict) else content
    if not isinstance(messages, list):
        raise UsageError(f"{path}: expected a list of messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise UsageError(f"{path}: message {index} has no role of {', '.join(ROLES)}")
        for text in _texts(message.get("content"), f"{path}: the content of message {index} is no text"):
            check_text(f"{path}: message {index}", text)
        if not _are_calls(message.get("tool_calls", [])):
            raise UsageError(
                f"{path}: the tool_calls of message {index} lack an id or a function with name and arguments"
            )
    return messages


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UsageError: if it cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}") from error


def check_text(name: str, text: str) -> str:
    """Return the text if it can be encoded.

    Raises:
        RequestError: if it came from bytes that are not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"{name} is not UTF-8 at character {error.start}") from None
    return text


def _texts(content: Any, error: str) -> list[str]:
    """The texts of a content: one, or those of its chunks.

    Raises:
        UsageError: with this message, if it holds something else.
    """
    texts: list[str] = []
    for chunk in content if isinstance(content, list) else [{"type": "text", "text": content}]:
        text = chunk.get(str(chunk.get("type"))) if isinstance(chunk, dict) else None
        if not isinstance(text, str):
            raise UsageError(error)
        texts.append(text)
    return texts


def _are_calls(calls: Any) -> bool:
    return isinstance(calls, list) and all(
        isinstance(call, dict)
        and isinstance(call.get("id"), str)
        and isinstance(call.get("function"), dict)
        and all(isinstance(call["function"].get(name), str) for name in ("name", "arguments"))
        for call in calls
    )


def _unanswered_calls(messages: Sequence[Message]) -> list[Message]:
    calls = messages[-1].get("tool_calls") or [] if messages else []
    return [
        {"role": "tool", "name": call["function"]["name"], "tool_call_id": call["id"], "content": NOT_EXECUTED}
        for call in calls
    ]


def _write_atomically(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
