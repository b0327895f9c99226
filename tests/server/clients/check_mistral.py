"""mistralai 1.x and later, as its users call it: with a key, and an import that is the same for all versions."""

import asyncio
import json
import os
from importlib.metadata import version
from typing import Literal

from mistralai import Mistral
from pydantic import BaseModel
from questions import SAFE_PROMPT, TOO_LONG, TOOL, USER, raised

IS_1 = version("mistralai").startswith("1.")
if IS_1:
    from mistralai.models import HTTPValidationError, SDKError
else:
    from mistralai.client.errors import HTTPValidationError, SDKError

KEY = os.environ["MISTRAL_API_KEY"]
CATEGORIES = {
    "sexual", "hate_and_discrimination", "violence_and_threats", "dangerous_and_criminal_content", "selfharm",
    "health", "financial", "law", "pii",
}  # fmt: skip
client = Mistral(api_key=KEY)


class Book(BaseModel):
    name: Literal["Emma", "Dune"]
    is_read: bool


def check_chat_and_stream_agree():
    how = {"model": "mistral-large-latest", "messages": USER, "temperature": 0, "max_tokens": 12}
    whole = client.chat.complete(**how)
    chunks = [event.data for event in client.chat.stream(**how)]
    assert whole.choices[0].message.content
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == whole.choices[0].message.content
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def check_the_asynchronous_client():
    async def main():
        async with Mistral(api_key=KEY) as asynchronous:
            how = {"model": "m", "messages": USER, "temperature": 0, "max_tokens": 12}
            whole = await asynchronous.chat.complete_async(**how)
            stream = await asynchronous.chat.stream_async(**how)
            assert "".join([event.data.choices[0].delta.content async for event in stream]) == (
                whole.choices[0].message.content
            )

    asyncio.run(main())


def check_an_address_that_a_program_names_wins():
    other = Mistral(api_key=KEY, server_url=f"{os.environ['MISTRAL_LOCAL_URL']}/nowhere")
    assert "no route" in str(raised(SDKError, other.models.list))
    same = Mistral(api_key=KEY, server_url=f"{os.environ['MISTRAL_LOCAL_URL']}/")
    assert same.models.list().data


def check_a_tool_round_trip_streamed_and_not():
    how = {"model": "m", "tools": [TOOL], "temperature": 0, "max_tokens": 80}
    first = client.chat.complete(messages=USER, tool_choice="any", parallel_tool_calls=False, **how).choices[0]
    assert first.finish_reason == "tool_calls"
    (call,) = first.message.tool_calls
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
    chunks = [event.data for event in client.chat.stream(messages=USER, tool_choice="any", **how)]
    streamed = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or ()]
    assert streamed[0].function == call.function
    result = {"role": "tool", "name": "get_weather", "tool_call_id": call.id, "content": "sunny"}
    assert client.chat.complete(messages=[*USER, first.message, result], **how).choices[0].message.content is not None


def check_a_tool_is_named():
    named = {"type": "function", "function": {"name": "get_weather"}}
    how = {"model": "m", "messages": USER, "tools": [TOOL], "temperature": 0, "max_tokens": 80}
    (call,) = client.chat.complete(tool_choice=named, **how).choices[0].message.tool_calls
    assert call.function.name == "get_weather"


def check_parse_gives_a_model():
    how = {"model": "m", "messages": USER, "temperature": 0, "frequency_penalty": 1.0, "max_tokens": 200}
    assert isinstance(client.chat.parse(Book, **how).choices[0].message.parsed, Book)


def check_json_mode():
    messages = [{"role": "system", "content": "Answer as a JSON object."}, *USER]
    how = {"model": "m", "messages": messages, "temperature": 0, "max_tokens": 300}
    choice = client.chat.complete(response_format={"type": "json_object"}, **how).choices[0]
    assert choice.finish_reason == "length" or isinstance(json.loads(choice.message.content), dict)


def check_all_options_are_taken():
    newer = {"top_k": 5, "min_tokens": 4, "repetition_penalty": 1.1, "logprobs": True, "top_logprobs": 1}
    answer = client.chat.complete(
        model="m",
        messages=USER,
        temperature=0.5,
        top_p=0.9,
        max_tokens=4,
        stop=["zzz"],
        random_seed=3,
        metadata={"a": "b"},
        presence_penalty=0.1,
        frequency_penalty=0.1,
        n=2,
        prediction={"type": "content", "content": "x"},
        parallel_tool_calls=True,
        safe_prompt=True,
        **({} if IS_1 else {**newer, "prompt_cache_key": "k"}),
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert IS_1 or len(answer.choices[0].logprobs.content) == 4


def check_the_safe_prompt_is_the_system_message():
    how = {"model": "m", "temperature": 0, "max_tokens": 12}
    safe = client.chat.complete(messages=USER, safe_prompt=True, **how)
    said = client.chat.complete(messages=[{"role": "system", "content": SAFE_PROMPT}, *USER], **how)
    assert (safe.usage.prompt_tokens, safe.choices[0].message.content) == (
        said.usage.prompt_tokens,
        said.choices[0].message.content,
    )


def check_a_seed_repeats_and_a_prefix_begins():
    how = {"model": "m", "temperature": 1.0, "max_tokens": 12}
    texts = {client.chat.complete(messages=USER, random_seed=5, **how).choices[0].message.content for _ in range(2)}
    assert len(texts) == 1
    begun = [*USER, {"role": "assistant", "content": "I am", "prefix": True}]
    assert client.chat.complete(messages=begun, **how).choices[0].message.content.startswith("I am")


def check_fim():
    how = {"model": "codestral", "prompt": "def add(", "suffix": "return x", "temperature": 0}
    whole = client.fim.complete(**how, max_tokens=8, stop=["zzz"], random_seed=1).choices[0].message.content
    chunks = [event.data for event in client.fim.stream(**how, max_tokens=8)]
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == whole


def check_embeddings():
    vectors = client.embeddings.create(model="mistral-embed", inputs=["a text", "b"]).data
    assert [vector.index for vector in vectors] == [0, 1]
    assert abs(sum(number * number for number in vectors[0].embedding) - 1) < 1e-3


def check_models():
    (card,) = client.models.list().data
    assert card.capabilities.completion_chat
    assert card.capabilities.completion_fim
    assert client.models.retrieve(model_id=card.id).id == card.id


def check_moderations():
    two = client.classifiers.moderate(model="mistral-moderation-latest", inputs=["a kind word", "another"])
    assert len(two.results) == 2
    for result in two.results:
        assert set(result.categories) == set(result.category_scores) == CATEGORIES
        assert all(0 <= score <= 1 for score in result.category_scores.values())
    for inputs, count in ((USER, 1), ([USER, [*USER, {"role": "assistant", "content": "Hello!"}]], 2)):
        results = client.classifiers.moderate_chat(model="m", inputs=inputs).results
        assert [set(result.categories) for result in results] == [CATEGORIES] * count


def check_what_the_model_cannot_do_is_refused():
    document = {"type": "document_url", "document_url": "https://example.org/a.pdf"}
    assert "vision" in str(raised(SDKError, client.ocr.process, model="m", document=document))
    transcribe = client.audio.transcriptions.complete
    assert "audio" in str(raised(SDKError, transcribe, model="m", file_url="https://example.org/a.mp3"))
    file = {"file_name": "a.mp3", "content": b"x"}
    assert "audio" in str(raised(SDKError, transcribe, model="m", file=file))
    classifiers = client.classifiers
    assert "no classifier" in str(raised(SDKError, classifiers.classify, model="m", inputs=["x"]))
    conversations = {"inputs" if IS_1 else "input": [{"messages": USER}]}
    assert "no classifier" in str(raised(SDKError, classifiers.classify_chat, model="m", **conversations))


def check_errors_have_their_class_and_message():
    complete = client.chat.complete
    assert raised(HTTPValidationError, complete, model="m", messages=USER, temperature=3)
    assert "leaves no room" in str(raised(SDKError, complete, model="m", messages=TOO_LONG))
    assert "no route" in str(raised(SDKError, client.beta.conversations.start, model="m", inputs="x"))
    assert "API key" in str(raised(SDKError, Mistral(api_key="wrong").models.list))
