"""The published clients, as their users call them, against a real server."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from live import KEY, TOOL, USER, Live
from pydantic import BaseModel

FORCED: Any = {"type": "function", "function": {"name": "get_weather"}}


README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
def test_the_examples_of_the_readme_work(live: Live, example: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip(example.split()[1].split(".")[0])
    exec(example.replace("http://127.0.0.1:8000", live.url).replace('"local"', repr(KEY)), {})
    assert capsys.readouterr().out.strip()


class Book(BaseModel):
    name: Literal["Emma", "Dune"]
    pages: Literal[300, 400]


class TestOpenAI:
    @pytest.fixture
    def client(self, live: Live) -> Iterator[Any]:
        openai = pytest.importorskip("openai")
        with openai.OpenAI(api_key=KEY, base_url=f"{live.url}/v1", max_retries=0) as client:
            yield client

    def test_chat_and_stream_agree(self, client: Any) -> None:
        how: Any = {"model": "gpt-4o", "messages": USER, "temperature": 0, "max_completion_tokens": 12}
        whole = client.chat.completions.create(**how)
        chunks = list(client.chat.completions.create(**how, stream=True, stream_options={"include_usage": True}))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == whole.choices[0].message.content
        assert text
        assert chunks[-1].usage == whole.usage

    def test_the_stream_helper_reads_calls(self, client: Any) -> None:
        how: Any = {"model": "m", "messages": USER, "tools": [TOOL], "tool_choice": FORCED, "temperature": 0}
        with client.chat.completions.stream(**how, max_tokens=80) as stream:
            for _ in stream:
                pass
            message = stream.get_final_completion().choices[0].message
        assert json.loads(message.tool_calls[0].function.arguments)["city"] in ("Paris", "Rome")

    def test_a_tool_round_trip(self, client: Any) -> None:
        how: Any = {"model": "m", "tools": [TOOL], "temperature": 0, "max_tokens": 80}
        first = client.chat.completions.create(messages=USER, tool_choice="required", **how).choices[0]
        assert first.finish_reason == "tool_calls"
        results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in first.message.tool_calls]
        second = client.chat.completions.create(messages=[*USER, first.message, *results], tool_choice="none", **how)
        assert second.choices[0].finish_reason in ("stop", "length")
        assert second.usage.prompt_tokens > first.message.content.count(" ")

    def test_parse_gives_a_model(self, client: Any) -> None:
        parsed = client.chat.completions.parse(
            model="m", messages=USER, response_format=Book, temperature=0, frequency_penalty=1.0, max_tokens=200
        )
        assert isinstance(parsed.choices[0].message.parsed, Book)

    def test_logprobs_and_models(self, client: Any) -> None:
        answer = client.chat.completions.create(
            model="m", messages=USER, logprobs=True, top_logprobs=3, max_tokens=3, temperature=0
        )
        assert len(answer.choices[0].logprobs.content) == 3
        (model,) = client.models.list().data
        assert client.models.retrieve(model.id) == model

    def test_completions_and_embeddings(self, client: Any, live: Live) -> None:
        answer = client.completions.create(model="m", prompt="This is", suffix="test", max_tokens=5, temperature=0)
        assert answer.choices[0].text
        chunks = list(client.completions.create(model="m", prompt="This is", max_tokens=5, stream=True, temperature=0))
        assert "".join(chunk.choices[0].text for chunk in chunks)
        as_default = client.embeddings.create(model="m", input=["a text", "b"])
        as_floats = client.embeddings.create(model="m", input=["a text", "b"], encoding_format="float")
        assert as_default.data[0].embedding == pytest.approx(as_floats.data[0].embedding, abs=1e-3)
        assert len(as_default.data) == 2

    def test_errors_have_their_class_and_message(self, client: Any, live: Live) -> None:
        import openai

        with pytest.raises(openai.UnprocessableEntityError, match="temperature: "):
            client.chat.completions.create(model="m", messages=USER, temperature=3)
        with pytest.raises(openai.BadRequestError, match="leaves no room") as caught:
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "word " * 2000}])
        assert caught.value.code == "context_length_exceeded"
        with pytest.raises(openai.AuthenticationError, match="API key"):
            client.with_options(api_key="wrong").models.list()
        with pytest.raises(openai.NotFoundError, match="no route"):
            client.responses.create(model="m", input="x")


class TestMistral:
    @pytest.fixture
    def client(self, live: Live) -> Iterator[Any]:
        pytest.importorskip("mistralai")
        from mistralai.client import Mistral

        with Mistral(api_key=KEY, server_url=live.url) as client:
            yield client

    def test_chat_and_stream_agree(self, client: Any) -> None:
        how: Any = {"model": "mistral-large-latest", "messages": USER, "temperature": 0, "max_tokens": 12}
        whole = client.chat.complete(**how)
        chunks = [event.data for event in client.chat.stream(**how)]
        assert "".join(chunk.choices[0].delta.content for chunk in chunks) == whole.choices[0].message.content
        assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
        assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason

    def test_a_tool_round_trip_streamed_and_not(self, client: Any) -> None:
        how: Any = {"model": "m", "tools": [TOOL], "temperature": 0, "max_tokens": 80}
        first = client.chat.complete(messages=USER, tool_choice="any", parallel_tool_calls=False, **how).choices[0]
        assert first.finish_reason == "tool_calls"
        (call,) = first.message.tool_calls
        assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
        chunks = [event.data for event in client.chat.stream(messages=USER, tool_choice="any", **how)]
        streamed = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or ()]
        assert streamed[0].function == call.function
        result = {"role": "tool", "name": "get_weather", "tool_call_id": call.id, "content": "sunny"}
        assert client.chat.complete(messages=[*USER, first.message, result], **how).choices

    def test_parse_gives_a_model(self, client: Any) -> None:
        parsed = client.chat.parse(Book, model="m", messages=USER, temperature=0, frequency_penalty=1.0, max_tokens=200)
        assert isinstance(parsed.choices[0].message.parsed, Book)

    def test_all_options_of_the_client_are_taken(self, client: Any) -> None:
        answer = client.chat.complete(
            model="m",
            messages=USER,
            temperature=0.5,
            top_p=0.9,
            top_k=5,
            max_tokens=4,
            min_tokens=4,
            stop=["zzz"],
            random_seed=3,
            metadata={"a": "b"},
            presence_penalty=0.1,
            frequency_penalty=0.1,
            repetition_penalty=1.1,
            logprobs=True,
            top_logprobs=1,
            n=2,
            prediction={"type": "content", "content": "x"},
            parallel_tool_calls=True,
            prompt_cache_key="k",
            safe_prompt=True,
        )
        assert [choice.index for choice in answer.choices] == [0, 1]
        assert len(answer.choices[0].logprobs.content) == 4

    def test_abilities_that_the_model_lacks_are_an_error_with_a_reason(self, client: Any) -> None:
        from mistralai.client.errors import SDKError

        file = {"file_name": "a.wav", "content": b"RIFF"}
        refused = [
            lambda: client.ocr.process(model="m", document={"type": "document_url", "document_url": "http://x"}),
            lambda: client.audio.transcriptions.complete(model="m", file=file),
            lambda: client.audio.transcriptions.complete(model="m", file_url="http://x/a.wav"),
            lambda: client.classifiers.classify(model="m", inputs=["a"]),
            lambda: client.classifiers.classify_chat(model="m", input=[{"messages": USER}]),
        ]
        for call in refused:
            with pytest.raises(SDKError, match="the loaded model") as caught:
                call()
            assert caught.value.status_code == 400

    def test_models(self, client: Any) -> None:
        (card,) = client.models.list().data
        assert card.capabilities.completion_chat
        assert client.models.retrieve(model_id=card.id).id == card.id

    def test_fim_and_embeddings(self, client: Any) -> None:
        how: Any = {"model": "codestral", "prompt": "def add(", "suffix": "return x", "temperature": 0}
        whole = client.fim.complete(**how, max_tokens=8, stop=["zzz"], random_seed=1).choices[0].message.content
        chunks = [event.data for event in client.fim.stream(**how, max_tokens=8)]
        assert "".join(chunk.choices[0].delta.content for chunk in chunks) == whole
        vectors = client.embeddings.create(model="mistral-embed", inputs=["a text", "b"]).data
        assert len(vectors) == 2
        assert all(isinstance(number, float) for number in vectors[0].embedding)

    def test_errors_have_their_class_and_message(self, client: Any) -> None:
        from mistralai.client.errors import HTTPValidationError, SDKError

        with pytest.raises(HTTPValidationError):
            client.chat.complete(model="m", messages=USER, temperature=3)
        with pytest.raises(SDKError, match="leaves no room"):
            client.chat.complete(model="m", messages=[{"role": "user", "content": "word " * 2000}])
        with pytest.raises(SDKError, match="no route"):
            client.beta.conversations.start(model="m", inputs="x")
