"""params.json of a decoder-only transformer, dense or mixture of experts."""

from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from simple_parsing.helpers import Serializable

from mistral_local.args.checks import check_bool, check_float, check_int
from mistral_local.args.context import DEFAULT_CONTEXT, published_family
from mistral_local.args.fields import HARMLESS, HARMLESS_MOE, UNSUPPORTED, understood_fields
from mistral_local.args.hf_config import in_hf_words, params_from_hf
from mistral_local.args.json_object import read_object, shown
from mistral_local.args.quantization_config import SECTION, quantization_from_config
from mistral_local.args.sections import LoraArgs, MoeArgs, QuantizationArgs, VisionEncoderArgs
from mistral_local.args.window import Window, parse_window
from mistral_local.errors import ParamsError, UnsupportedCheckpointError

MAX_FILE_BYTES = 1 << 20
MAX_POSITIONS = 100_000_000

# Bounds that no model comes near; they stop a damaged file before anything is allocated.
SIZES = {
    "dim": 131_072,
    "n_layers": 1024,
    "head_dim": 4096,
    "hidden_dim": 1_048_576,
    "n_heads": 4096,
    "n_kv_heads": 4096,
    "vocab_size": 4_194_304,
}


@dataclass
class TransformerArgs(Serializable):
    """What a transformer checkpoint is.

    The first fields are those of mistral_inference, in its order.  Not frozen, because old scripts assign
    `max_batch_size`; nothing else writes to it.

    Raises:
        ParamsError: a value is of the wrong type, out of range, or contradicts another; the field is named.
        UnsupportedCheckpointError: a value that is understood, but not implemented.
    """

    dim: int
    n_layers: int
    head_dim: int
    hidden_dim: int
    n_heads: int
    n_kv_heads: int
    norm_eps: float
    vocab_size: int

    max_batch_size: int = 0
    rope_theta: float | None = None
    moe: MoeArgs | None = None
    lora: LoraArgs | None = None
    sliding_window: Window = None
    _sliding_window: Window = None
    model_type: str = "transformer"
    vision_encoder: VisionEncoderArgs | None = None

    tied_embeddings: bool = False
    max_seq_len: int | None = None
    max_position_embeddings: int | None = None
    quantization: QuantizationArgs | None = None

    def __post_init__(self) -> None:
        if self.model_type != "transformer":
            raise UnsupportedCheckpointError(
                f'model_type: only "transformer" is supported, found {shown(self.model_type)}'
            )
        if self.vision_encoder is not None or self.lora is not None:
            name = "lora" if self.vision_encoder is None else "vision_encoder"
            raise UnsupportedCheckpointError(f"{name}: not supported yet")
        self._check_sizes()
        self._check_numbers()
        self._settle_window()

    def _check_sizes(self) -> None:
        for name, high in SIZES.items():
            check_int(name, getattr(self, name), low=1, high=high)
        if self.n_heads % self.n_kv_heads != 0:
            raise ParamsError(f"n_kv_heads: expected a divisor of n_heads ({self.n_heads}), found {self.n_kv_heads}")
        if self.head_dim % 2 != 0:  # rotary embeddings turn pairs
            raise ParamsError(f"head_dim: expected an even number, found {self.head_dim}")

    def _check_numbers(self) -> None:
        self.norm_eps = check_float("norm_eps", self.norm_eps, low=0.0, high=1.0)
        check_int("max_batch_size", self.max_batch_size, low=0, high=1_000_000)
        check_bool("tied_embeddings", self.tied_embeddings)
        if self.rope_theta is not None:
            self.rope_theta = check_float("rope_theta", self.rope_theta, low=0.0, high=1e15)
        for name in ("max_seq_len", "max_position_embeddings"):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name), low=1, high=MAX_POSITIONS)
        if self.moe is not None and not isinstance(self.moe, MoeArgs):
            raise ParamsError(f"moe: expected MoeArgs, found {shown(self.moe)}")

    def _settle_window(self) -> None:
        """Accept the second spelling `_sliding_window`; afterwards only `sliding_window` is set."""
        window = parse_window("sliding_window", self.sliding_window)
        other = parse_window("_sliding_window", self._sliding_window)
        if window is not None and other is not None and window != other:
            raise ParamsError(f"_sliding_window: expected {shown(window)} as in sliding_window, found {shown(other)}")
        self.sliding_window, self._sliding_window = (other if window is None else window), None

    @property
    def longest_window(self) -> int | None:
        """The window of the layer that looks furthest back; None when some layer sees everything."""
        windows = [self.window(layer) for layer in range(self.n_layers)]
        known = [window for window in windows if window is not None]
        return max(known) if len(known) == len(windows) else None

    def window(self, layer: int) -> int | None:
        """How many keys a query of this layer sees, itself included; None means all.  A list is a repeating pattern."""
        if isinstance(self.sliding_window, list):
            return self.sliding_window[layer % len(self.sliding_window)]
        assert not isinstance(self.sliding_window, str)
        return self.sliding_window

    @property
    def theta(self) -> float:
        """Base of the rotary frequencies; absent, it is 1e4 beside an int window (7B v0.1) and 1e6 otherwise."""
        if self.rope_theta is not None:
            return self.rope_theta
        return 1e4 if isinstance(self.sliding_window, int) else 1e6

    @property
    def context_length(self) -> int:
        """How many positions the model is made for; `context_source` says how we know."""
        return self._context()[0]

    @property
    def states_context(self) -> bool:
        """Whether params.json itself says how long the context is."""
        return self.max_seq_len is not None or self.max_position_embeddings is not None

    @property
    def context_source(self) -> str:
        """Where `context_length` comes from: a field of params.json, a published family, or the default."""
        return self._context()[1]

    def _context(self) -> tuple[int, str]:
        for name in ("max_seq_len", "max_position_embeddings"):
            if (stated := getattr(self, name)) is not None:
                return stated, name
        family = published_family(
            dim=self.dim,
            n_layers=self.n_layers,
            hidden_dim=self.hidden_dim,
            num_experts=self.moe.num_experts if self.moe else 0,
            theta=self.theta,
        )
        if family is not None:
            return family.context_length, f"published for {family.name}"
        return DEFAULT_CONTEXT, "default: params.json does not say, and the shape is not a published one"

    @classmethod
    def from_dict(cls, obj: dict[str, Any], drop_extra_fields: bool | None = None) -> "TransformerArgs":
        """Build from the content of params.json.

        A field that nobody has heard of is refused; with `drop_extra_fields` it is dropped.  One that is known to
        change the computation is refused either way.
        """
        known = {field.name for field in fields(cls)}
        if drop_extra_fields:
            obj = {name: value for name, value in obj.items() if name in known | UNSUPPORTED.keys() | {SECTION}}
        params = understood_fields(obj, known | {SECTION}, HARMLESS)
        config = params.pop(SECTION, None)
        if config not in (None, False, {}):
            if "quantization" in params:
                raise ParamsError(f"{SECTION}: expected either it or quantization, found both")
            params["quantization"] = quantization_from_config(config)
        if "moe" in params:
            params["moe"] = _moe_from_params(params["moe"], hidden_dim=params.get("hidden_dim"))
        if "quantization" in params:
            params["quantization"] = _quantization_from_params(params["quantization"])
        required = [field.name for field in fields(cls) if field.default is MISSING]
        if missing := [name for name in required if name not in params]:
            raise ParamsError(f"{', '.join(missing)}: missing")
        return cls(**params)

    @classmethod
    def from_folder(cls, folder: Path | str) -> "TransformerArgs":
        """Read params.json of a checkpoint folder, or else its config.json (Hugging Face, mistral or mixtral)."""
        folder = Path(folder)
        if not folder.is_dir():
            raise ParamsError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
        native, hf = folder / "params.json", folder / "config.json"
        file = native if native.exists() or not hf.exists() else hf
        if not file.exists():
            found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
            raise ParamsError(f"{folder}: expected params.json (or a Hugging Face config.json), found {found}")
        content = read_object(file, max_bytes=MAX_FILE_BYTES, error=ParamsError)
        try:
            return cls.from_dict(params_from_hf(content) if file == hf else content)
        except (ParamsError, UnsupportedCheckpointError) as error:
            raise type(error)(f"{file}: {in_hf_words(str(error)) if file == hf else error}") from error


def _quantization_from_params(section: object) -> QuantizationArgs:
    if isinstance(section, QuantizationArgs):
        return section
    if not isinstance(section, dict):
        raise ParamsError(f"quantization: expected an object, found {shown(section)}")
    known = {field.name for field in fields(QuantizationArgs)}
    params = understood_fields(section, known, {}, prefix="quantization.")
    if "qformat_weight" not in params:
        raise ParamsError("quantization.qformat_weight: missing")
    return QuantizationArgs(**params)


def _moe_from_params(section: object, *, hidden_dim: object) -> MoeArgs | None:
    if isinstance(section, MoeArgs):
        return section
    if not isinstance(section, dict):
        raise ParamsError(f"moe: expected an object, found {shown(section)}")
    harmless = HARMLESS_MOE | {"expert_hidden_dim": ((hidden_dim,), "experts are as wide as hidden_dim says")}
    known = {field.name for field in fields(MoeArgs)}
    params = understood_fields(section, known, harmless, prefix="moe.")
    if not section:
        return None
    if missing := sorted(known - params.keys()):
        raise ParamsError(f"{', '.join(f'moe.{name}' for name in missing)}: missing")
    return MoeArgs(**params)
