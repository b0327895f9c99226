"""Sentences around a request, and the small untidinesses of typed text."""

from collections.abc import Iterator
from random import Random

from scripts.demo_data.alternatives import expansions, vary
from scripts.demo_data.kinds.base import Phrases
from scripts.demo_data.literals import lines

NOUN_FRAMES = lines("""(Tell|Give|Get) me {}.
    (Compute|Find|Determine|Work out|Print) {}.
    I (need|want|would like|have to find|must know|am looking for) {}.
    (Do you know|Can you tell me|Could you tell me|Would you know) {}?
    (Could|Can|Would) you (calculate|find|work out|compute|determine|get me|give me) {}(| please| for me)?
    I (want|need|would like|wish) to (know|see|have|learn) {}.
    Please (give me|calculate|tell me|find|compute|work out|print|get) {}.
    Let (me have|me see|me know|us find|us compute) {}.
    (Get me|Return to me|Say to me) {}, please.
    (Hello|Hi|Hey), (can|could) you (get|find|calculate|show) {}?
    (Hello!|Hi!|Hey!|Good day!) I need {}.
    My (homework|teacher|boss|friend|colleague) (asks for|wants|needs|asked me for) {}.
    For my (work|school|project|report) I need {}.
    (I am curious|Just curious|A question|Quick question|Next): {}?
    (Help me|Help me to|Try to) (find|get|compute) {}.
    (Use Python to|With Python,|By program,) (get|find|compute) {}.
    I (ask myself|would love to know|forgot|do not know) {}.
    (It would be nice to have|What about|How about|Now) {}?
    (So|Well|Okay|Then), {}?
    {}
    {}?
    {}, please
    {} (is what I need|would help me|is what I want).
    I was wondering: {}?
    (Any thought on|The answer to this, please|One thing|Can you quickly say): {}?""")
ORDER_FRAMES = lines("""{}.
    (Please|Now|Next,|Now please|So please|Kindly) {}.
    (Can|Could|Would|Will) you {}?
    (Can|Could|Would) you (please|kindly) {}(| for me)?
    I (want|need|ask|would want) you to {}.
    (Could|Can) you {} for me?
    (Hi|Hello|Hey|Good day)(,|!) (please|can you|could you) {}?
    (Your task|The task|My request|Here is a task|To do): {}.
    Would you be (able|so kind) to {}?
    (First of all|First|After that|Then|Again|Also), {}.
    (You should|You must|You have to|Try to|Use Python to) {}.
    I (want|need|would love|am trying|try) to {}.
    (How do I|How can I|Is it possible to) {}?
    {}(,|) please.
    (Could|Can) you {} quickly?
    One (thing|more request): {}.
    {}""")
QUESTION_FRAMES = lines("""{}?
    (Tell me|Please tell me|Say|Can you tell me|Could you tell me)(:|,) {}?
    (Quick one|Quick question|A question|Next question|Another question|Question)(:|,) {}?
    (Hey|Hi|Hello|Hi there|Good day|Well|So|Okay|Now|And|But)(,|) {}?
    I have a (question|quick question|small question|problem): {}?
    I (want|would like|need) to know: {}?
    (My boss|My teacher|My friend|Somebody) asks: {}?
    (By the way|For my homework|For a friend|After that|Once more), {}?
    (I wonder|Just one thing|I have no idea|Do you have an answer), {}?
    {}, (please|do you know|can you tell me)?
    {}""")
SCRIPT_FRAMES = lines("""(Write|Make|Create|Give me|Show me) Python that (prints|shows|outputs|computes) {}.
    (Write|Make|Create|Build) a (program|short program|Python program) (which|that|to) (shows|prints|finds|output) {}.
    (Make|Create|Build|Develop) a script (that|which) (outputs|prints|computes|finds) {}.
    (Give me|I need|I want|Show me) (code|a program|a Python program|Python code) (for|that prints|to get) {}.
    Please (write|make|create) a (Python script|script|small program) (that outputs|for|that shows|printing) {}.
    Python (code|script|program) (to get|for|that prints|printing) {}.
    Show me a script which (computes|prints|finds) {}.
    (Can|Could) you (write|create|make) (a program|a script|code) (that prints|for|to print) {}?
    (Code|Script|Program): {}
    Program {} in Python.
    How do I (print|compute|get) {} (in|with) Python?
    (Print|Output|Compute|Show) {} (with|in) Python.""")


def ask(rng: Random, phrases: Phrases) -> str:
    """Return a request with slots, in a random mood and frame."""
    moods = [
        (NOUN_FRAMES, phrases.nouns),
        (ORDER_FRAMES, phrases.orders),
        (QUESTION_FRAMES, phrases.questions),
    ]
    frames, cores = rng.choice(moods)
    return sentence(vary(rng, rng.choice(frames).replace("{}", rng.choice(cores))))


def ask_for_script(rng: Random, phrases: Phrases) -> str:
    """Return a request for a program, with slots."""
    return sentence(vary(rng, rng.choice(SCRIPT_FRAMES).replace("{}", rng.choice(phrases.nouns))))


def all_requests(phrases: Phrases) -> Iterator[str]:
    """Yield every request, with slots, that `ask` and `ask_for_script` can return."""
    moods = (
        (NOUN_FRAMES, phrases.nouns),
        (ORDER_FRAMES, phrases.orders),
        (QUESTION_FRAMES, phrases.questions),
        (SCRIPT_FRAMES, phrases.nouns),
    )
    for frames, cores in moods:
        filled = [text for core in cores for text in expansions(core)]
        yield from (sentence(text.replace("{}", core)) for f in frames for text in expansions(f) for core in filled)


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
