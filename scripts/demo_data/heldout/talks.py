"""Held-out small talk, and how to tell that an answer fits."""

from dataclasses import dataclass

from scripts.demo_data.literals import lines


@dataclass(frozen=True, slots=True)
class HeldTalk:
    """Prompts that need no tool; a fitting answer holds `expects` (one of them), in lower case."""

    name: str
    asks: tuple[str, ...]
    expects: tuple[str, ...]


TALKS = (
    HeldTalk(
        "greeting",
        ("Good morning!", "Hello my friend", "Hi, nice to meet you.", "Good evening, model!"),
        ("hello", "help you"),
    ),
    HeldTalk("wellbeing", ("How are you?", "How are you today?", "Are you fine?"), ("fine",)),
    HeldTalk(
        "identity", ("Who are you?", "What are you?", "Are you a person or a model?", "What is your name?"), ("model",)
    ),
    HeldTalk("ability", ("What can you do?", "How can you help me?", "What can I ask you?"), ("python", "tool")),
    HeldTalk("thanks", ("Thank you!", "Thank you for your help.", "Thanks a lot!"), ("welcome",)),
    HeldTalk("farewell", ("Bye for now!", "See you tomorrow.", "I have to leave now, goodbye."), ("goodbye",)),
    HeldTalk(
        "haiku",
        lines("""Write a haiku about {t}.
            Please write a haiku on {t}.
            Can you write a haiku about {t}?"""),
        ("\n",),
    ),
    HeldTalk(
        "poem",
        ("Write a poem about {t}.", "Please write a short poem on {t}.", "Can you write a poem for {t}?"),
        ("\n",),
    ),
    HeldTalk("story", ("Tell me a story about {t}.", "Write a short story about {t}."), ("once",)),
    HeldTalk("joke", ("Tell me a joke.", "Do you know a good joke?"), ("why",)),
    HeldTalk(
        "explain",
        lines("""What is {t}?
            Explain {t} to me.
            Tell me about {t}.
            Explain {t} in a nutshell."""),
        ("{t}",),
    ),
    HeldTalk(
        "machine_learning",
        ("Explain Machine Learning to me in a nutshell.", "What is machine learning?"),
        ("machine learning",),
    ),
)
