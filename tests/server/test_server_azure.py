"""The Azure AI inference API at the root: its client, its extras and its names."""

import json
from typing import Any

import pytest
from live import KEY, TOOL, USER, Live

BODY: dict[str, Any] = {"messages": USER, "temperature": 0, "max_tokens": 5}


@pytest.mark.parametrize(
    ("headers", "extra", "status"),
    [
        ({}, {"unheard_of": 1}, 422),
        ({"extra-parameters": "error"}, {"unheard_of": 1}, 422),
        ({"extra-parameters": "pass-through"}, {"unheard_of": 1}, 200),
        ({"extra-parameters": "drop"}, {"unheard_of": 1}, 200),
        ({"extra-params": "passthrough"}, {"unheard_of": 1}, 200),
        ({"extra-parameters": "what"}, {}, 400),
        ({}, {"safe_mode": True, "logprobs": True}, 200),
        ({"extra-parameters": "pass-through"}, {"temperature": 5}, 422),
    ],
)
def test_unknown_fields_are_refused_unless_the_header_allows_them(
    live: Live, headers: dict[str, str], extra: dict[str, Any], status: int
) -> None:
    path = "/chat/completions?api-version=2024-05-01-preview"
    answer = live.http.post(path, json={**BODY, **extra}, headers=headers)
    assert answer.status_code == status, answer.text


def test_safe_mode_is_safe_prompt(live: Live) -> None:
    by_mode, by_prompt = (
        live.post("/chat/completions", **BODY, **{name: True}) for name in ("safe_mode", "safe_prompt")
    )
    assert by_mode.json()["usage"] == by_prompt.json()["usage"]
    assert by_mode.json()["usage"]["prompt_tokens"] > live.chat().json()["usage"]["prompt_tokens"] + 10


class TestClient:
    @pytest.fixture
    def connect(self, live: Live) -> Any:
        pytest.importorskip("azure.ai.inference")
        from azure.core.credentials import AzureKeyCredential

        return lambda kind: kind(endpoint=live.url, credential=AzureKeyCredential(KEY))

    def test_chat_and_stream_agree(self, connect: Any) -> None:
        from azure.ai.inference import ChatCompletionsClient
        from azure.ai.inference.models import SystemMessage, UserMessage

        with connect(ChatCompletionsClient) as client:
            assert client.get_model_info().model_type == "chat-completion"
            messages = [SystemMessage("Be brief."), UserMessage("Hello!")]
            how: Any = {"messages": messages, "temperature": 0, "max_tokens": 2048}
            whole = client.complete(**how)
            assert whole.choices[0].finish_reason == "stop"
            streamed = list(client.complete(**how, stream=True))
            text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
            assert text == whole.choices[0].message.content
            extras = {"logprobs": True, "safe_mode": True}
            safe = client.complete(**how, model_extras=extras)
            assert safe.usage.prompt_tokens > whole.usage.prompt_tokens

    def test_tools_and_json(self, connect: Any) -> None:
        from azure.ai.inference import ChatCompletionsClient
        from azure.ai.inference.models import AssistantMessage, ToolMessage, UserMessage

        with connect(ChatCompletionsClient) as client:
            messages: list[Any] = [UserMessage("What is the weather in Paris?")]
            how: Any = {"tools": [TOOL], "temperature": 0, "max_tokens": 80}
            choice = client.complete(messages=messages, tool_choice="required", **how).choices[0]
            assert choice.finish_reason == "tool_calls"
            calls = choice.message.tool_calls
            assert json.loads(calls[0].function.arguments)["city"] in ("Paris", "Rome")
            messages += [AssistantMessage(tool_calls=calls)]
            messages += [ToolMessage("sunny", tool_call_id=call.id) for call in calls]
            assert client.complete(messages=messages, **how).choices
            answer = client.complete(
                messages=messages[:1], response_format="json_object", max_tokens=300, temperature=0
            )
            assert answer.choices[0].message.content.startswith("{")

    def test_embeddings_and_errors(self, connect: Any) -> None:
        from azure.ai.inference import ChatCompletionsClient, EmbeddingsClient
        from azure.core.exceptions import HttpResponseError

        with connect(EmbeddingsClient) as client:
            assert len(client.embed(input=["a", "b"], input_type="query").data) == 2
        with connect(ChatCompletionsClient) as client, pytest.raises(HttpResponseError) as caught:
            client.complete(messages=[{"role": "user", "content": "word " * 3000}])
        assert caught.value.response.json()["error"]["code"] == "context_length_exceeded"
