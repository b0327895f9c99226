"""Small talk as turns of a conversation, and the usual system prompts."""

from random import Random

from mistral_common.protocol.instruct.messages import UserMessage

from scripts.demo_data.alternatives import vary
from scripts.demo_data.frames import untidy
from scripts.demo_data.samples import Message, says
from scripts.demo_data.talks import TALKS
from scripts.demo_data.values import phrase, place, title, word

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a friendly assistant.",
    "Answer briefly.",
    "You are an assistant that can use tools.",
    "Be polite and short.",
    "You help people with numbers, dates and words.",
    "Use a tool when it helps.",
    "You are a kind and careful helper.",
    "You are good at Python.",
    "Think first, then answer.",
    "Today you help a customer of our shop.",
    "You are the assistant of a school class.",
    "Do what the user asks. Do not invent facts.",
    "Only call a tool if it is needed.",
)


def topic(rng: Random) -> str:
    """Return what a poem or an explanation is about."""
    draw = rng.choice((place, place, word, word, title, phrase, plural))
    return draw(rng)


def plural(rng: Random) -> str:
    """Return one or two words as they follow "the" or "my"."""
    words = [word(rng) for _ in range(rng.randint(1, 2))]
    return rng.choice(("the ", "my ", "a ", "")) + " ".join(words)


def talk_turn(rng: Random) -> list[Message]:
    """Return a request that needs no tool, and its answer."""
    talk = rng.choice(TALKS)
    ask = untidy(rng, vary(rng, rng.choice(talk.asks)))
    about = topic(rng)
    answer = rng.choice(talk.answers)
    for _ in range(ask.count("{t}") - 1):
        ask = ask.replace("{t}", word(rng), 1)
    return [UserMessage(content=ask.replace("{t}", about)), says(answer.replace("{t}", about))]
