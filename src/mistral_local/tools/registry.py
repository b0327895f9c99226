"""The tools of a conversation by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mistral_local.errors import ToolError
from mistral_local.tools.tool import Tool, tool


class ToolRegistry:
    """Tools that a model may call.

    Args:
        tools: made by @tool, or functions that it could be put on.

    Raises:
        ToolError: if a function cannot be a tool, or two have one name.
    """

    def __init__(self, tools: Iterable[Tool | Callable[..., Any]] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        for item in tools:
            self.add(item)

    def add(self, item: Tool | Callable[..., Any]) -> Tool:
        """Add one more tool and return it."""
        added = item if isinstance(item, Tool) else tool(item)
        if added.name in self._tools:
            raise ToolError(f"two tools are called {added.name}")
        self._tools[added.name] = added
        return added

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def get(self, name: str) -> Tool | None:
        """The tool of a name, if there is one."""
        return self._tools.get(name)

    def find(self, name: str) -> Tool:
        """The tool of a name.

        Raises:
            ToolError: if there is none; the message is meant for the model.
        """
        if name not in self._tools:
            raise ToolError(f"there is no tool {name}; there are: {', '.join(self._tools) or 'none'}")
        return self._tools[name]

    def definitions(self) -> list[dict[str, Any]]:
        """All tools as the Mistral API takes them."""
        return [item.definition() for item in self]
