"""--content_filter: prompts that the model judges harmful are refused in the way of Azure, and answers are not judged."""

from collections.abc import Iterator
from typing import Any

import client_environments
import httpx
import pytest
from client_environments import python_of
from live import KEY, USER, Live, running
from planted import Planted, all_no, one_yes
from test_server_load import serving

from mistral_local.tasks.moderation import Labels

BODY: dict[str, Any] = {"messages": USER, "temperature": 0, "max_tokens": 5}
ROUTES = [
    ("/v1/chat/completions", BODY),
    ("/chat/completions", BODY),
    ("/v1/fim/completions", {"prompt": "def add(", "suffix": "return x", "max_tokens": 5}),
    ("/v1/completions", {"prompt": "This is", "max_tokens": 5}),
    ("/v1/completions", {"prompt": [[1, 1073], [1, 1855]], "max_tokens": 5}),
]


@pytest.fixture(scope="module")
def filtering() -> Iterator[tuple[Live, Planted, Labels]]:
    """A server whose model judges as the test wants it."""
    with running(filters_content=True) as server:
        tokenizer = server.state.llm.tokenizer
        labels = Labels.of(tokenizer)
        yield server, Planted(server.engine.model, tokenizer, all_no(labels)), labels


@pytest.mark.parametrize(("path", "body"), ROUTES)
@pytest.mark.parametrize("stream", [False, True])
def test_every_route_that_answers_refuses_before_it_does(
    filtering: tuple[Live, Planted, Labels], path: str, body: dict[str, Any], stream: bool
) -> None:
    live, model, labels = filtering
    model.plant(one_yes(labels, "violence_and_threats"))
    answer = live.post(path, **body, stream=stream)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == answer.json()["code"] == "content_filter"
    assert "violence_and_threats" in error["message"]
    assert error["innererror"]["code"] == "ResponsibleAIPolicyViolation"
    safe = {"filtered": False, "severity": "safe"}
    assert error["innererror"]["content_filter_result"] == {
        "sexual": safe,
        "hate": safe,
        "violence": {"filtered": True, "severity": "high"},
        "dangerous_and_criminal_content": safe,
        "self_harm": safe,
    }
    model.plant(all_no(labels))
    assert live.post(path, **body, stream=stream).status_code == 200


def test_token_ids_that_are_none_are_refused(filtering: tuple[Live, Planted, Labels]) -> None:
    refused = filtering[0].post("/v1/completions", prompt=[1, 10**8])
    assert refused.status_code == 400
    assert "token id 100000000 is outside the vocabulary" in refused.json()["error"]["message"]


def test_severity_is_the_score_and_advice_is_no_harm(filtering: tuple[Live, Planted, Labels]) -> None:
    live, model, labels = filtering
    model.plant(one_yes(labels, "sexual", margin=0.5))
    refused = live.chat(messages=[{"role": "user", "content": "a prompt of its own"}]).json()["error"]
    assert refused["innererror"]["content_filter_result"]["sexual"] == {"filtered": True, "severity": "medium"}
    model.plant(one_yes(labels, "health"))
    assert live.chat(messages=[{"role": "user", "content": "another prompt"}]).status_code == 200


def test_what_passes_is_answered_as_without_a_filter(filtering: tuple[Live, Planted, Labels], live: Live) -> None:
    server, model, labels = filtering
    model.plant(all_no(labels))
    assert server.text() == live.text()


@pytest.mark.long
@pytest.mark.parametrize("name", ["azure-b3", "azure-b9"])
def test_the_client_of_azure_reads_the_refusal(filtering: tuple[Live, Planted, Labels], name: str) -> None:
    live, model, labels = filtering
    model.plant(one_yes(labels, "selfharm"))
    words = client_environments.run(python_of(name), client_environments.CHECKS / "read_refusal.py", url=live.url)
    codes, message = words.splitlines()
    assert codes == "400 content_filter content_filter"
    assert message.startswith("the content filter")


def test_the_flag_switches_it_on() -> None:
    """A context that holds the prompt, but not the question about it, shows that it is asked."""
    flags = ("--max_context", "60")
    for more, status in (((), 200), (("--content_filter",), 400)):
        with serving(*flags, *more, MISTRAL_LOCAL_API_KEY=KEY) as (_, url):
            answer = httpx.post(f"{url}/v1/chat/completions", json=BODY, headers={"api-key": KEY})
            assert answer.status_code == status, answer.text
