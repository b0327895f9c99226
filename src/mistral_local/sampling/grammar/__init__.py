"""Constrained decoding: grammars of what an answer may be, and the token masks that hold it to them.

The masks are tensors, and lie in `masks`, which alone imports torch.
"""

from mistral_local.sampling.grammar.compiler import GrammarCompiler, GrammarLimits
from mistral_local.sampling.grammar.grammar import Grammar, GrammarState
from mistral_local.sampling.grammar.vocabulary import GrammarVocabulary

__all__ = ["Grammar", "GrammarCompiler", "GrammarLimits", "GrammarState", "GrammarVocabulary"]
