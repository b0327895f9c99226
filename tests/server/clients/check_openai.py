"""openai, as its users call it: with nothing but the environment."""

import asyncio
import json
from typing import Literal

import openai
from pydantic import BaseModel
from questions import TOO_LONG, TOOL, USER, raised

client = openai.OpenAI(max_retries=0)


class Book(BaseModel):
    name: Literal["Emma", "Dune"]
    is_read: bool


def check_chat_and_stream_agree():
    how = {"model": "gpt-4o", "messages": USER, "temperature": 0, "max_completion_tokens": 12}
    whole = client.chat.completions.create(**how)
    chunks = list(client.chat.completions.create(**how, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert text
    assert chunks[-1].usage == whole.usage


def check_the_asynchronous_client():
    async def main():
        async with openai.AsyncOpenAI() as asynchronous:
            how = {"model": "m", "messages": USER, "temperature": 0, "max_tokens": 12}
            create = asynchronous.chat.completions.create
            whole = await create(**how)
            chunks = [chunk async for chunk in await create(**how, stream=True)]
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            assert text == whole.choices[0].message.content

    asyncio.run(main())


def check_the_stream_helper_reads_calls():
    named = {"type": "function", "function": {"name": "get_weather"}}
    how = {"model": "m", "messages": USER, "tools": [TOOL], "tool_choice": named, "temperature": 0}
    with client.chat.completions.stream(**how, max_tokens=80) as stream:
        for _ in stream:
            pass
        message = stream.get_final_completion().choices[0].message
    assert json.loads(message.tool_calls[0].function.arguments)["city"] in ("Paris", "Rome")


def check_a_tool_round_trip():
    how = {"model": "m", "tools": [TOOL], "temperature": 0, "max_tokens": 80}
    first = client.chat.completions.create(messages=USER, tool_choice="required", **how).choices[0]
    assert first.finish_reason == "tool_calls"
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in first.message.tool_calls]
    second = client.chat.completions.create(messages=[*USER, first.message, *results], tool_choice="none", **how)
    assert second.choices[0].finish_reason in ("stop", "length")


def check_parse_gives_a_model():
    how = {"model": "m", "messages": USER, "temperature": 0, "frequency_penalty": 1.0, "max_tokens": 200}
    parsed = client.chat.completions.parse(response_format=Book, **how)
    assert isinstance(parsed.choices[0].message.parsed, Book)


def check_logprobs_and_models():
    how = {"model": "m", "messages": USER, "max_tokens": 3, "temperature": 0}
    answer = client.chat.completions.create(logprobs=True, top_logprobs=3, **how)
    assert len(answer.choices[0].logprobs.content) == 3
    (model,) = client.models.list().data
    assert client.models.retrieve(model.id) == model


def check_completions():
    how = {"model": "m", "prompt": "This is", "max_tokens": 5, "temperature": 0}
    assert client.completions.create(suffix="test", **how).choices[0].text
    chunks = client.completions.create(stream=True, **how)
    assert "".join(chunk.choices[0].text for chunk in chunks) == client.completions.create(**how).choices[0].text


def check_embeddings():
    as_default = client.embeddings.create(model="m", input=["a text", "b"])
    as_floats = client.embeddings.create(model="m", input=["a text", "b"], encoding_format="float")
    assert len(as_default.data) == 2
    pairs = zip(as_default.data[0].embedding, as_floats.data[0].embedding, strict=True)
    assert all(abs(one - other) < 1e-3 for one, other in pairs)


def check_moderations():
    assert len(client.moderations.create(input=["a kind word", "another"]).results) == 2
    (result,) = client.moderations.create(model="omni-moderation-latest", input="a kind word").results
    assert result.flagged == any(result.categories.model_dump(exclude_unset=True).values())
    assert result.categories.sexual == (result.category_scores.sexual >= 0.5)


def check_errors_have_their_class_and_message():
    create = client.chat.completions.create
    error = raised(openai.UnprocessableEntityError, create, model="m", messages=USER, temperature=3)
    assert "temperature: " in str(error)
    error = raised(openai.BadRequestError, create, model="m", messages=TOO_LONG)
    assert "leaves no room" in str(error)
    assert error.code == "context_length_exceeded"
    assert "API key" in str(raised(openai.AuthenticationError, client.with_options(api_key="wrong").models.list))
    assert "no route" in str(raised(openai.NotFoundError, client.responses.create, model="m", input="x"))
