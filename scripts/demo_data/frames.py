"""Sentences around a request, and the small untidinesses of typed text."""

from random import Random

from scripts.demo_data.kinds.base import Phrases
from scripts.demo_data.literals import lines

NOUN_FRAMES = lines("""Tell me {}.
    Give me {}.
    Compute {}.
    I need {}.
    Find {}.
    Work out {}.
    Do you know {}?
    Could you calculate {}?
    Can you find {}?
    I would like {}.
    I want to know {}.
    Please give me {}.
    Please calculate {}.
    Let me have {}.
    I am looking for {}.
    Get me {}, please.
    Hello, can you get {}?
    Hi! I need {}.
    Determine {}.
    My homework asks for {}.
    For my work I need {}.
    {}
    {}?
    {}, please""")
ORDER_FRAMES = lines("""{}.
    Please {}.
    Can you {}?
    Could you {}?
    I want you to {}.
    Could you {} for me?
    Now {}.
    Hi, please {}.
    Hello! Can you {} for me?
    I need you to {}.
    Your task: {}.
    Would you be able to {}?
    First of all, {}.
    Next, {}.
    {}, please.
    {}""")
QUESTION_FRAMES = lines("""{}?
    Tell me: {}?
    Quick one: {}?
    Hey, {}?
    Hi there, {}?
    I have a question: {}?
    And {}?
    Next question: {}?
    Well, {}?
    Please tell me, {}?
    {}""")
SCRIPT_FRAMES = lines("""Write Python that prints {}.
    Write a program which shows {}.
    Make a script that outputs {}.
    Give me code for {}.
    I need a Python program for {}.
    Please write a Python script that outputs {}.
    Create a short program to show {}.
    Python code to get {}.
    Show me a script which computes {}.
    Can you write a program that prints {}?
    Code: {}
    Program {} in Python.""")


def ask(rng: Random, phrases: Phrases) -> str:
    """Return a request with slots, in a random mood and frame."""
    moods = [
        (NOUN_FRAMES, phrases.nouns),
        (ORDER_FRAMES, phrases.orders),
        (QUESTION_FRAMES, phrases.questions),
    ]
    frames, cores = rng.choice(moods)
    return sentence(rng.choice(frames).replace("{}", rng.choice(cores)))


def ask_for_script(rng: Random, phrases: Phrases) -> str:
    """Return a request for a program, with slots."""
    return sentence(rng.choice(SCRIPT_FRAMES).replace("{}", rng.choice(phrases.nouns)))


def sentence(text: str) -> str:
    """Start with a capital, unless a slot comes first."""
    return text[:1].upper() + text[1:]


def untidy(rng: Random, template: str) -> str:
    """Make some requests look typed in haste, here and there with two letters swapped; slots are kept."""
    return swap_letters(rng, template) if rng.random() < 0.08 else hasty(rng, template)


def hasty(rng: Random, text: str) -> str:
    """Make some requests start in lower case or end in other marks."""
    draw = rng.random()
    if draw < 0.12:
        return text[:1].lower() + text[1:]
    if draw < 0.22:
        return text.rstrip(".?!") + rng.choice(("", " ", "..", " ?", "!"))
    return text


def swap_letters(rng: Random, template: str) -> str:
    """Swap two neighbouring letters of one longer word that holds no slot."""
    words = template.split(" ")
    long = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if not long:
        return template
    i = rng.choice(long)
    at = rng.randint(1, len(words[i]) - 3)
    words[i] = words[i][:at] + words[i][at + 1] + words[i][at] + words[i][at + 2 :]
    return " ".join(words)
