"""azure-ai-inference 1.0.0b3 and b9, which differ in the names of tools and response formats."""

import json
import os
from importlib.metadata import version

from azure.ai.inference import ChatCompletionsClient, EmbeddingsClient, load_client, models
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from questions import SAFE_PROMPT, TOO_LONG, TOOL, USER, raised

IS_B3 = version("azure-ai-inference") == "1.0.0b3"
KEY = AzureKeyCredential(os.environ["AZURE_INFERENCE_CREDENTIAL"])
ENDPOINT = os.environ["AZURE_INFERENCE_ENDPOINT"]
client = ChatCompletionsClient(endpoint=ENDPOINT, credential=KEY)


def tool():
    kind = models.ChatCompletionsFunctionToolDefinition if IS_B3 else models.ChatCompletionsToolDefinition
    return kind(function=models.FunctionDefinition(**TOOL["function"]))


def json_object():
    return {"type": models.ChatCompletionsResponseFormat.JSON_OBJECT} if IS_B3 else "json_object"


def check_chat_and_stream_agree():
    messages = [models.SystemMessage(content="Be brief."), models.UserMessage(content="Hello!")]
    how = {"messages": messages, "temperature": 0, "max_tokens": 12, "top_p": 1}
    whole = client.complete(**how)
    chunks = list(client.complete(stream=True, **how))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert text
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert whole.created.year > 2000


def check_the_model_is_told():
    model = client.get_model_info()
    assert model.model_name
    assert isinstance(load_client(endpoint=ENDPOINT, credential=KEY), ChatCompletionsClient)


def check_all_options_are_taken():
    answer = client.complete(
        messages=USER,
        presence_penalty=0.1,
        frequency_penalty=0.8,
        max_tokens=5,
        stop=["<|endoftext|>"],
        seed=3,
        temperature=0.5,
        top_p=0.9,
        response_format={"type": models.ChatCompletionsResponseFormat.TEXT} if IS_B3 else "text",
    )
    assert answer.choices[0].message.content is not None


def check_json_mode():
    messages = [models.SystemMessage(content="Answer as a JSON object."), *USER]
    how = {"temperature": 0, "max_tokens": 300}
    choice = client.complete(messages=messages, response_format=json_object(), **how).choices[0]
    assert choice.finish_reason == "length" or isinstance(json.loads(choice.message.content), dict)


def check_a_json_schema():
    if IS_B3:
        return
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    form = models.JsonSchemaFormat(name="a", schema=schema, strict=True)
    answer = client.complete(messages=USER, response_format=form, temperature=0, max_tokens=50)
    assert json.loads(answer.choices[0].message.content)["a"] in (1, 2)


def check_extra_parameters_pass_through_or_are_refused():
    how = {"messages": USER, "temperature": 0, "max_tokens": 5}
    answer = client.complete(model_extras={"logprobs": True}, **how)
    assert len(answer.choices[0]["logprobs"]["content"]) == 5
    safe = client.complete(model_extras={"safe_mode": True}, **how)
    said = client.complete(**{**how, "messages": [models.SystemMessage(content=SAFE_PROMPT), *USER]})
    assert safe.usage.prompt_tokens == said.usage.prompt_tokens
    assert safe.choices[0].message.content == said.choices[0].message.content


def check_a_tool_round_trip():
    how = {"tools": [tool()], "temperature": 0, "max_tokens": 80}
    first = client.complete(messages=USER, tool_choice="required", **how).choices[0]
    assert first.finish_reason == "tool_calls"
    calls = first.message.tool_calls
    assert json.loads(calls[0].function.arguments)["city"] in ("Paris", "Rome")
    results = [models.ToolMessage(tool_call_id=call.id, content="sunny") for call in calls]
    second = client.complete(messages=[*USER, first.message, *results], **how)
    assert second.choices[0].message.content is not None


def check_embeddings():
    with EmbeddingsClient(endpoint=ENDPOINT, credential=KEY) as embedder:
        answer = embedder.embed(input=["a text", "b"])
    assert [item.index for item in answer.data] == [0, 1]
    assert abs(sum(number * number for number in answer.data[0].embedding) - 1) < 1e-3


def check_errors_have_their_class_and_message():
    error = raised(HttpResponseError, client.complete, messages=USER, temperature=3)
    assert error.status_code == 422
    assert "temperature: " in str(error)
    error = raised(HttpResponseError, client.complete, messages=TOO_LONG)
    assert (error.status_code, error.error.code) == (400, "context_length_exceeded")
    assert error.response.json()["error"]["message"] in str(error)
    wrong = ChatCompletionsClient(endpoint=ENDPOINT, credential=AzureKeyCredential("wrong"))
    assert "API key" in str(raised(ClientAuthenticationError, wrong.complete, messages=USER))
    nowhere = ChatCompletionsClient(endpoint=f"{ENDPOINT}/nowhere", credential=KEY)
    assert "no route" in str(raised(ResourceNotFoundError, nowhere.complete, messages=USER))
