"""Point Python's `mistralai` client at a local server: it reads no variable for the address, so its default is changed.

Python imports this module by itself when this folder is on PYTHONPATH, in the programs of other people and whatever they
start.  So it runs on Python 3.7 and later, imports nothing of mistral_local, and costs a dictionary look-up per import.
A `sitecustomize` that was there before is run, too.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


class Finder:
    """Finds modules of `mistralai` as they are, with a loader that does one thing more.  All others it leaves alone."""

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        """The spec that the finders after this one give."""
        if name not in AFTERWARDS:
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                spec.loader = Loader(spec.loader, AFTERWARDS[name])  # type: ignore[assignment]
                return spec
        return None


class Loader:
    """Loads a module as its own loader would (None: a namespace package, which has nothing to run), and calls `afterwards`."""

    def __init__(self, loader: "Any", afterwards: "Callable[[Any], None]") -> None:
        self._loader, self._afterwards = loader, afterwards

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        """As the module's own loader does."""
        module: ModuleType | None = None if self._loader is None else self._loader.create_module(spec)
        return module

    def exec_module(self, module: "Any") -> None:
        """Run the module with its own loader in place, for whoever asks it later."""
        if self._loader is not None:
            module.__loader__ = module.__spec__.loader = self._loader
            self._loader.exec_module(module)
        self._afterwards(module)


def change_default_server(module: "Any") -> None:
    """Let all servers that the client knows by name be the local one; a `server_url` that a program gives still wins."""
    url = os.environ.get("MISTRAL_LOCAL_URL")
    if url:
        module.SERVERS.update(dict.fromkeys(module.SERVERS, url))


def offer_client(module: "Any") -> None:
    """Let `from mistralai import Mistral`, the import of 1.x, work in later versions, where it is a namespace package."""
    if getattr(module, "__file__", None) is None:

        def get(name: str) -> "Any":
            if name != "Mistral":
                raise AttributeError("module 'mistralai' has no attribute " + repr(name))
            from mistralai.client import Mistral

            return Mistral

        module.__getattr__ = get


AFTERWARDS = {
    "mistralai": offer_client,
    "mistralai.sdkconfiguration": change_default_server,  # 1.x
    "mistralai.client.sdkconfiguration": change_default_server,  # 2.x and later
}


def run_other_sitecustomize() -> None:
    """Run the `sitecustomize` that this one hides, if there is one; it takes this one's place in sys.modules."""
    here = os.path.dirname(os.path.abspath(__file__))
    others = [entry for entry in sys.path if os.path.abspath(entry) != here]
    for finder in sys.meta_path:
        spec = finder.find_spec("sitecustomize", others)
        if spec is not None and spec.loader is not None:
            # importlib.util has it too, at the cost of half a start of Python.
            from _frozen_importlib import module_from_spec

            module = sys.modules["sitecustomize"] = module_from_spec(spec)
            spec.loader.exec_module(module)
            return


if __name__ == "sitecustomize":
    sys.meta_path.insert(0, Finder())
    run_other_sitecustomize()
