"""Every exception that mistral_local raises on purpose.

MistralLocalError                exit code 1  something failed while running
├── UsageError                              2  a flag, option or command that cannot be
│   └── LicenceError                           terms that must be accepted first
├── RequestError (ValueError)               2  a request that cannot be served
│   ├── EmptyPromptError                       no tokens to start from
│   ├── PromptTooLongError                     prompt (and answer) exceed the context
│   ├── TokenIdError                           a token id outside the vocabulary
│   └── GrammarError                           a schema or grammar that cannot be held to
├── ToolError (ValueError)                  2  a function that cannot be a tool, a call that cannot be made
├── AnswerError                             1  an answer that is not what was asked for
├── CheckpointError                         3  a folder that is not a usable checkpoint
│   ├── ParamsError                            params.json or config.json
│   ├── UnsupportedCheckpointError             understood, but not implemented
│   ├── WeightsError                           tensors and the files they are in
│   ├── TokenizerError                         tokenizer files
│   ├── AdapterError                           a LoRA file
│   └── ArchiveError                           an archive that is damaged or not safe to unpack
├── DownloadError                           5  the network, or the server at its other end
├── ChecksumError                           6  bytes that are not those that were published
├── DiskSpaceError                          1  the disk is full, or would be
├── DownloadBusyError                       1  another process downloads to the same folder
├── EngineBusyError                         1  too many requests wait already
├── EngineClosedError                       1  the engine was stopped, or has died
├── SandboxError                            1  a program could not be run in the sandbox
│   └── SandboxUnavailableError                there is no sandbox on this machine; nothing was run
├── RankLostError                           1  another rank under torchrun cannot go on
├── OutOfMemoryError                        4  host or device memory does not suffice
└── ShapeError (ValueError)                 1  tensors whose shapes do not agree

Messages are one line: what was expected, what came, where, and what to do.
"""


class MistralLocalError(Exception):
    """Base of everything raised on purpose; `exit_code` is what a command returns for it."""

    exit_code = 1


class UsageError(MistralLocalError):
    """A flag, option or command that does not exist or cannot have this value."""

    exit_code = 2


class LicenceError(UsageError):
    """A model whose licence restricts its use, and was not accepted."""


class RequestError(MistralLocalError, ValueError):
    """A request that cannot be served as asked."""

    exit_code = 2


class EmptyPromptError(RequestError):
    """A prompt without tokens."""


class PromptTooLongError(RequestError):
    """A prompt that does not fit into the context window."""


class TokenIdError(RequestError):
    """A token id outside the vocabulary."""


class GrammarError(RequestError):
    """A schema, pattern or grammar that is refused; the reason is named."""


class ToolError(MistralLocalError, ValueError):
    """A function that cannot be a tool, or a call of one that cannot be made."""

    exit_code = 2


class AnswerError(MistralLocalError):
    """An answer of the model that is not what was asked for.

    Attributes:
        text: the answer.
    """

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


class CheckpointError(MistralLocalError):
    """A folder that cannot be used as a checkpoint."""

    exit_code = 3


class ParamsError(CheckpointError):
    """params.json (or config.json) is missing, broken or contradicts itself."""


class UnsupportedCheckpointError(CheckpointError):
    """The checkpoint asks for something that is not implemented; the field is named."""


class WeightsError(CheckpointError):
    """A weight file is damaged, or its tensors are not those of the model."""


class TokenizerError(CheckpointError):
    """The tokenizer is missing, damaged, or does not fit the model."""


class AdapterError(CheckpointError):
    """A LoRA file cannot be merged into this model."""


class ArchiveError(CheckpointError):
    """An archive that is damaged, holds no checkpoint, or has a member that is not safe to unpack; nothing is in place."""


class DownloadError(MistralLocalError):
    """What was asked for could not be had over the network; what has come is kept."""

    exit_code = 5


class ChecksumError(MistralLocalError):
    """A file is not the one that was published."""

    exit_code = 6


class DiskSpaceError(MistralLocalError):
    """The disk is full, or would be before the end."""


class DownloadBusyError(MistralLocalError):
    """Another process downloads to the same folder."""


class EngineBusyError(MistralLocalError):
    """Too many requests wait already; the same request may succeed later."""


class EngineClosedError(MistralLocalError):
    """The engine takes no more sequences: it was stopped, or has died."""


class SandboxError(MistralLocalError):
    """The sandbox itself failed; what the program in it did wrong is its result, not an error."""


class SandboxUnavailableError(SandboxError):
    """The sandbox cannot be built on this machine; the message names the cause and the fix.  Nothing was run."""


class RankLostError(MistralLocalError):
    """Another rank under torchrun has ended or failed, so that nothing more can be computed; the first cause is named."""


class OutOfMemoryError(MistralLocalError):
    """Host or device memory does not suffice; the message says what was needed."""

    exit_code = 4


class ShapeError(MistralLocalError, ValueError):
    """Tensor shapes that do not agree."""
