"""Samples -> token ids with a supervision mask, by mistral_common's own encoder of each message."""

from pathlib import Path
from typing import Any

from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, ToolMessage, UserMessage
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

from scripts.demo_data.samples import Conversation, Infill, Sample

Encoded = tuple[list[int], list[bool]]  # token ids; whether each is to be predicted


class Encoder:
    """Encodes samples; the message pieces concatenated are what `encode_chat_completion` returns (tested)."""

    def __init__(self, tekken: Path) -> None:
        self.tokenizer: MistralTokenizer[Any, Any, Any, Any, Any] = MistralTokenizer.from_file(str(tekken))
        self.pieces: Any = self.tokenizer.instruct_tokenizer
        self.text = self.pieces.tokenizer

    def encode(self, sample: Sample) -> Encoded:
        """Return ids and mask of one sample."""
        if isinstance(sample, Conversation):
            return self._conversation(sample)
        if isinstance(sample, Infill):
            return self._infill(sample)
        ids = self.text.encode(sample.text, bos=True, eos=True)
        return ids, [False] + [True] * (len(ids) - 1)

    def _conversation(self, sample: Conversation) -> Encoded:
        ids: list[int] = self.pieces.start()
        mask = [False] * len(ids)
        users = [i for i, message in enumerate(sample.messages) if isinstance(message, UserMessage)]
        for i, message in enumerate(sample.messages):
            if isinstance(message, UserMessage):
                piece = self.pieces.encode_user_message(
                    message, list(sample.tools), is_last=i == users[-1], is_first=i == users[0]
                )[0]
            elif isinstance(message, ToolMessage):
                piece = self.pieces.encode_tool_message(message, i < users[-1])[0]
            elif isinstance(message, SystemMessage):
                piece = self.pieces.encode_system_message(message)[0]
            else:
                piece = self.pieces.encode_assistant_message(message, i < users[-1])
            ids += piece
            mask += [isinstance(message, AssistantMessage)] * len(piece)
        return ids, mask

    def _infill(self, sample: Infill) -> Encoded:
        from_request = self.prompt_of_infill(sample)
        answer = [*self.text.encode(sample.middle, bos=False, eos=False), self.text.eos_id]
        return from_request + answer, [False] * len(from_request) + [True] * len(answer)

    def prompt_of_infill(self, sample: Infill) -> list[int]:
        """Return the ids a runtime gets for this infilling: `<s>[SUFFIX]suffix[PREFIX]prefix`."""
        suffix = self.pieces._encode_infilling(sample.suffix) if sample.suffix else []
        prefix = self.text.encode(sample.prefix, bos=False, eos=False)
        return [self.pieces.BOS, self.pieces.SUFFIX, *suffix, self.pieces.PREFIX, *prefix]

    def plain(self, text: str) -> list[int]:
        """Return the ids of raw text after the beginning-of-sequence token."""
        ids: list[int] = self.text.encode(text, bos=True, eos=False)
        return ids
