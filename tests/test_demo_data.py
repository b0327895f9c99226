"""The data of the demo checkpoint: exact format, and a held-out set that is held out."""

import json
import re
from pathlib import Path
from random import Random

import pytest
from mistral_common.protocol.fim.request import FIMRequest
from mistral_common.protocol.instruct.messages import AssistantMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest

from scripts.demo_data import chat, frames
from scripts.demo_data import talks as training_talks
from scripts.demo_data.alternatives import expansions
from scripts.demo_data.encoding import Encoder
from scripts.demo_data.heldout import phrases, reserved, talks
from scripts.demo_data.heldout.cases import held_cases
from scripts.demo_data.heldout.disjoint import HeldOut, fenced
from scripts.demo_data.heldout.names import CITIES, PEOPLE
from scripts.demo_data.heldout.tools import TOOLS
from scripts.demo_data.infills import infill
from scripts.demo_data.kinds import KINDS, Phrases
from scripts.demo_data.mixture import Progress, draw_sample
from scripts.demo_data.packing import pack
from scripts.demo_data.samples import Conversation, Infill, calls, says
from scripts.demo_data.tekken import write_tekken
from scripts.demo_data.values import NAMES, PLACES


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    path: Path = tmp_path_factory.mktemp("demo") / "tekken.json"
    write_tekken(path)
    return Encoder(path)


def conversations(number: int) -> list[Conversation]:
    rng = Random(3)
    samples = (draw_sample(rng, Progress(0.7)) for _ in range(number))
    return [sample for sample in samples if isinstance(sample, Conversation)]


def test_every_answer_follows_exactly_what_a_runtime_would_encode(encoder: Encoder) -> None:
    for sample in conversations(60):
        ids, mask = encoder.encode(sample)
        for i, message in enumerate(sample.messages):
            if not isinstance(message, AssistantMessage):
                continue
            request = ChatCompletionRequest(messages=list(sample.messages[:i]), tools=list(sample.tools) or None)
            prompt = encoder.tokenizer.encode_chat_completion(request).tokens
            answer = encoder.pieces.encode_assistant_message(message, False)
            assert ids[: len(prompt) + len(answer)] == prompt + answer
            assert all(mask[len(prompt) : len(prompt) + len(answer)])
            assert not mask[len(prompt) - 1]


def test_an_infilling_follows_exactly_what_a_runtime_would_encode(encoder: Encoder) -> None:
    sample = infill(Random(1))
    ids, mask = encoder.encode(sample)
    prompt = encoder.tokenizer.encode_fim(FIMRequest(prompt=sample.prefix, suffix=sample.suffix)).tokens
    assert ids[: len(prompt)] == prompt
    assert encoder.text.decode(ids[len(prompt) :]) == sample.middle
    assert ids[-1] == encoder.text.eos_id
    assert mask == [False] * len(prompt) + [True] * (len(ids) - len(prompt))


def test_a_suffix_starts_without_a_stray_byte(encoder: Encoder) -> None:
    prompt = encoder.prompt_of_infill(Infill("def f(", "", "    return x"))
    assert encoder.text.decode(prompt) == "    return xdef f("


def test_packing_depends_on_the_seed_only(encoder: Encoder) -> None:
    def one() -> tuple[list[int], list[bool]]:
        return pack(Random("0:7"), encoder, Progress(0.2), length=512, accept=HeldOut().accepts)

    assert one() == one()
    assert len(one()[0]) == 512


def plain(text: str) -> str:
    return re.sub("[.?!,:]", "", text).lower().strip()


def held_out_requests(held: Phrases) -> set[str]:
    moods = (
        (phrases.NOUN_FRAMES, held.nouns),
        (phrases.ORDER_FRAMES, held.orders),
        (phrases.QUESTION_FRAMES, held.questions),
        (phrases.SCRIPT_FRAMES, held.nouns),
        (("{}",), (*held.orders, *held.questions)),
    )
    return {plain(frame.replace("{}", core)) for frames_, cores in moods for frame in frames_ for core in cores}


def test_no_held_out_request_is_a_training_request() -> None:
    assert set(phrases.PHRASES) == {kind.name for kind in KINDS}
    for kind in KINDS:
        training = {plain(text) for text in frames.all_requests(kind.phrases)}
        assert not training & held_out_requests(phrases.PHRASES[kind.name]), kind.name


def test_held_out_frames_and_cores_are_not_in_training() -> None:
    moods = ("NOUN_FRAMES", "ORDER_FRAMES", "QUESTION_FRAMES", "SCRIPT_FRAMES")
    training = {plain(text) for mood in moods for frame in getattr(frames, mood) for text in expansions(frame)}
    assert not training & {plain(frame) for mood in moods for frame in getattr(phrases, mood)}
    for kind in KINDS:
        asked, held = kind.phrases, phrases.PHRASES[kind.name]
        cores = {plain(t) for core in (*asked.nouns, *asked.orders, *asked.questions) for t in expansions(core)}
        assert not cores & {plain(core) for core in (*held.nouns, *held.orders, *held.questions)}, kind.name


def test_held_out_small_talk_and_names_are_not_in_training() -> None:
    asks = {plain(text) for talk in training_talks.TALKS for ask in talk.asks for text in expansions(ask)}
    assert not asks & {plain(ask) for talk in talks.TALKS for ask in talk.asks}
    assert not set(chat.SYSTEM_PROMPTS) & set(phrases.SYSTEM_PROMPTS)
    assert not {*NAMES, *PLACES} & {*PEOPLE, *CITIES}


def test_held_out_tools_use_reserved_names_only() -> None:
    for held in TOOLS:
        assert held.tool.function.name in reserved.TOOLS
        assert set(held.tool.function.parameters["properties"]) <= reserved.ARGUMENTS


def test_training_draws_no_reserved_name() -> None:
    for sample in conversations(400):
        for tool in sample.tools:
            assert tool.function.name not in reserved.TOOLS
            assert not set(tool.function.parameters["properties"]) & reserved.ARGUMENTS


def test_the_held_out_set_is_large_fixed_and_refused_by_the_filter() -> None:
    cases, filter_ = held_cases(), HeldOut()
    assert len(cases) >= 200
    assert cases == held_cases()
    assert not any(filter_.accepts(case.prompt) for case in cases)


def test_calls_in_training_hold_valid_json() -> None:
    for sample in conversations(200):
        for message in sample.messages:
            if isinstance(message, AssistantMessage):
                for call in message.tool_calls or ():
                    assert isinstance(json.loads(call.function.arguments), dict)


def test_the_filter_refuses_a_held_out_program_in_every_form() -> None:
    program = next(case.answer for case in held_cases() if case.row == "program")
    for answer in (calls(("python", {"code": program})), says(json.dumps({"code": program})), says(fenced(program))):
        assert not HeldOut().accepts(Conversation([answer]))
