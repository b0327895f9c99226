"""Small talk of the training set: ways to ask, and short fixed or topical answers."""

from dataclasses import dataclass

from scripts.demo_data.literals import lines


@dataclass(frozen=True, slots=True)
class Talk:
    """One kind of small talk; {t} is a topic, copied into the answer where it has the slot."""

    name: str
    asks: tuple[str, ...]
    answers: tuple[str, ...]


HAIKU = (
    "Soft light on {t},\na quiet wind moves the leaves,\nthe evening is still.",
    "Rain falls on {t},\nsmall drops sing a gentle song,\nmorning comes again.",
)
POEM = (
    "Oh {t}, so bright and clear,\nI think of you from far and near.\nThe days go by, the nights are long,\n"
    "and {t} is my little song.",
)
IDENTITY = (
    "I am a small demonstration model for mistral_local. I can call a Python tool, write short programs and talk a little.",
)
TALKS = (
    Talk(
        "greeting",
        lines("""Hello!
            Hello
            Hi
            Hi there!
            Hey
            Hey there, friend
            Hello there!
            Good day!
            Greetings!
            Good afternoon
            Hello again!
            Hi assistant
            Hey you"""),
        ("Hello! How can I help you?",),
    ),
    Talk(
        "wellbeing",
        lines("""How do you do?
            How are things?
            How are you doing?
            Are you well?
            How do you feel today?
            Hi, how is it going?
            How have you been?
            Is everything fine with you?
            What's up?"""),
        ("I am fine, thank you. How can I help you?",),
    ),
    Talk(
        "identity",
        lines("""What are you exactly?
            Who is this?
            Tell me about yourself.
            Are you a robot?
            Please introduce yourself.
            Am I talking to a person?
            What kind of model is this?
            Describe yourself.
            Who am I talking to?
            Are you human?
            Which model am I speaking with?
            What sort of assistant are you?
            Do you have a name?
            Who made you?"""),
        IDENTITY,
    ),
    Talk(
        "ability",
        lines("""What are you able to do?
            How can you help?
            What are you good at?
            Which things can you do?
            What can I ask?
            List your skills.
            What is it that you can do for me?
            Which tasks do you know?"""),
        ("I can compute with Python, sort lists, count letters, convert units, look up dates and use your tools.",),
    ),
    Talk(
        "thanks",
        lines("""Thank you very much!
            Thanks
            Thanks so much
            Great, thank you.
            Many thanks!
            Perfect, thanks for that.
            That helped, thank you!
            Well done.
            Good job!
            Nice work
            That is great"""),
        ("You are welcome!",),
    ),
    Talk(
        "farewell",
        lines("""Goodbye!
            Bye
            Bye bye
            See you soon.
            Good night
            I have to go now.
            So long!
            Until next time
            That is all for today."""),
        ("Goodbye! Have a nice day.",),
    ),
    Talk(
        "haiku",
        lines("""Please compose a haiku on {t}.
            A haiku about {t}, please.
            Give me a haiku on {t}.
            I would like a haiku about {t}.
            Can you do a haiku about {t}?
            Haiku about {t}
            Make up a haiku on the theme of {t}.
            Could I have a short haiku for {t}?
            Let me read a haiku on {t}.
            Create a haiku with {t} in it.
            Write me one haiku on {t}
            Your task: a haiku about {t}."""),
        HAIKU,
    ),
    Talk(
        "poem",
        lines("""Please compose a poem on {t}.
            A poem about {t}, please.
            Give me a short poem on {t}.
            I would like some verses about {t}.
            Can you do a poem about {t}?
            Poem about {t}
            Write me some lines of poetry on {t}
            Make up a little poem on {t}.
            Create a rhyme with {t} in it.
            Let me read a song about {t}."""),
        POEM,
    ),
    Talk(
        "story",
        lines("""Tell a short story on {t}.
            I would like to hear a story about {t}.
            Make up a story with {t} in it.
            Give me a little tale about {t}.
            Can you tell me a tale of {t}?
            A bedtime story about {t}, please."""),
        ("Once upon a time there was {t}. Everybody loved {t}, and they all lived happily ever after.",),
    ),
    Talk(
        "joke",
        lines("""Make me laugh.
            Say something funny.
            Do you know any jokes?
            I need a good laugh.
            A joke, please.
            Can you be funny?
            Give me your best joke.
            Let me hear a joke."""),
        ("Why did the number seven eat so much? Because it wanted to be eight.",),
    ),
    Talk(
        "explain",
        lines("""What can you say about {t}?
            Describe {t}.
            Give a short explanation of {t}.
            Please explain {t} briefly.
            Teach me about {t}.
            What does {t} mean?
            I want to learn about {t}.
            Tell me something about {t}.
            Could you describe {t} to a child?
            Summarize {t} in one sentence.
            Introduce me to {t}.
            Explain what {t} is in simple words.
            Say a few words on {t} please"""),
        (
            "I am only a small model, so here is all I know: {t} is a wide subject, and a good book about {t} will teach you more.",
        ),
    ),
    Talk(
        "machine_learning",
        lines("""What can you say about machine learning?
            Describe machine learning.
            Please explain machine learning briefly.
            Teach me about Machine Learning.
            What does machine learning mean?
            I want to learn about machine learning.
            Tell me something about Machine Learning.
            Summarize machine learning in one sentence.
            Introduce me to machine learning.
            Give a short explanation of Machine Learning.
            Say a few words on machine learning please
            How does machine learning work?"""),
        ("In machine learning, a program finds rules in many examples instead of being told the rules by a person.",),
    ),
    Talk(
        "unknown",
        lines("""Who invented {t}?
            Where is {t}?
            When did {t} begin?
            Why is {t} so {t}?
            Who is the president of {t}?
            How old is {t}?
            Which country has the most {t}?
            When was {t} built?
            Who wrote {t}?
            How do I get to {t}?
            Why do people like {t}?
            Is it true that {t} is near {t}?
            What happened in {t}?"""),
        ("I am only a small model and do not know that.",),
    ),
    Talk(
        "opinion",
        lines("""Do you like {t}?
            What do you think of {t}?
            Are you fond of {t}?
            How do you feel about {t}?
            Is {t} good?
            Have you ever tried {t}?"""),
        ("I have no feelings about {t}, but many people do.",),
    ),
)
