"""The local runtime for Mistral's open-weight models.

    import mistral_local
    llm = mistral_local.load()                      # or load(folder)
    llm.chat([{"role": "user", "content": "Hello!"}]).text

Scripts of mistral_inference find their names in mistral_local.transformer, mistral_local.generate, mistral_local.args,
mistral_local.lora and mistral_local.main.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mistral_local.model.transformer import Transformer
    from mistral_local.tasks.llm import LLM, load
    from mistral_local.tools.tool import tool

__version__ = "0.1.0"
__all__ = ["LLM", "Transformer", "__version__", "load", "tool"]


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for (PEP 562)."""
    if name in ("LLM", "load"):
        from mistral_local.tasks import llm

        return getattr(llm, name)
    if name == "Transformer":
        from mistral_local.model.transformer import Transformer

        return Transformer
    if name == "tool":
        from mistral_local.tools.tool import tool

        return tool
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
