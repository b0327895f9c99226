"""Small talk of the training set: ways to ask, and short fixed or topical answers."""

from dataclasses import dataclass

from scripts.demo_data.literals import lines


@dataclass(frozen=True, slots=True)
class Talk:
    """One kind of small talk; {t} is a topic, copied into the answer where it has the slot; asks have alternatives."""

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
        lines("""(Hello|Hi|Hey)(!|.|)
            (Hello|Hi|Hey)(,|) (there|you|assistant|friend|again|everybody|dear friend|little model)(!|.|)
            Good (day|afternoon)(!|.|, assistant|, my friend| to you)
            (Greetings|Welcome)(!|.|, friend)
            (A good|Good|A fine) (morning|evening|day) to you(!|.|, assistant)
            (Hello|Hi|Hey), (I am|this is|my name is) {t}(.|!|)
            (Hi|Hello|Hey), (it is me|I am back|I am new here|good to see you|pleased to meet you)(.|!|)
            (Nice|Good|Lovely) to (see|meet) you(!|.|, assistant)
            (Morning|Evening|Afternoon)(!|.|, friend)
            (Is anybody there|Are you there|Can you hear me)?"""),
        ("Hello! How can I help you?",),
    ),
    Talk(
        "wellbeing",
        lines("""How (do you do|are things|is it going|have you been|is life|was your day)(?|, my friend?| today?)
            How are (you doing|things with you|you feeling)(| today| now| this morning)?
            Are you (well|okay|all right|happy|feeling fine|doing well)(| today| now)?
            How do you feel(| today| now)?
            (Hi|Hello|Hey), how (is it going|are you doing|have you been|are things)?
            (Is|Are) (everything fine|things fine|all well) with you?
            (What's up|How's it going|How's life|All good)(?| with you?| today?)
            (I hope you are well|I hope you feel fine)."""),
        ("I am fine, thank you. How can I help you?",),
    ),
    Talk(
        "identity",
        lines("""(What|Who) are you (exactly|really|in fact)?
            (Who|What) is this?
            (Tell me|Say something|I want to know more) about yourself.
            Are you a (robot|machine|computer|human being|program|chat program|language model)?
            (Please introduce|Introduce|Describe|Can you describe|Can you introduce) yourself(.|, please.)
            Am I talking to a (person|human|machine|model)?
            (What|Which) (kind|sort|type) of (model|assistant|program|machine) (is this|are you)?
            (Who|What) am I (talking|speaking|writing) to?
            Are you (human|real|alive|a human|made by people)?
            Which model (am I speaking with|are you|is this)?
            (Do you have a name|What are you called|What should I call you|How are you called|Say your name)?
            Who (made|built|trained|created) you?
            (Is this|Are you) a (person|human) or a (machine|program|robot)?
            What do people call you?"""),
        IDENTITY,
    ),
    Talk(
        "ability",
        lines("""What are you (able to do|good at|capable of|made for|for)?
            How (can|could) you (help|be of help|be useful)(?| today?| to me?)
            (Which|What) (things|tasks|work) can you (do|solve|handle)(?| for me?)
            What (can|could|may|should) I ask(?| here?| of you?)
            (List|Name|Tell me|Show me) (your skills|your abilities|what you know)(.|, please.)
            What (is it that|kind of thing is it that) you can do(?| for me?)
            (Which tasks|What) do you know(?| how to do?)
            What can you (help with|do here|do today|offer|solve)?
            What can (this|the) (model|assistant|program) do?
            (How|In which way) can you help (us|people|with work)?"""),
        ("I can compute with Python, sort lists, count letters, convert units, look up dates and use your tools.",),
    ),
    Talk(
        "thanks",
        lines("""Thank you (very much|so much|kindly|again|all the same)(!|.|)
            (Thanks|Many thanks|Thanks so much|Thanks again|Thx|A thousand thanks|A lot of thanks)(!|.|)
            (Great|Perfect|Good|Fine|Super|Okay|Wonderful), (thank you|thanks|thanks a lot|many thanks)(.|!|)
            (Thanks|Many thanks|Thank you|Thank you so much) for (that|this|the answer|your time|the quick answer|everything|all your help|the help)(.|!|)
            (That|This) (helped|was helpful|is great|was great|is what I needed|is right)(.|!|, thank you!|, thanks.)
            (Well done|Good job|Nice work|Great work|Perfect|Very good|Excellent)(!|.|)
            (I thank you|I am grateful|You helped me a lot|I appreciate your help)(.|!|)"""),
        ("You are welcome!",),
    ),
    Talk(
        "farewell",
        lines("""(Goodbye|Bye|Bye bye|Farewell|So long|Good night|Ciao)(!|.|)
            See you (soon|later|then|again|next week|around)(!|.|)
            I (have to|must|need to|will) (go|leave|stop|sleep) now(.|!|, bye!|, see you!)
            (Until|Till) (next time|then|later|tomorrow)(!|.|)
            That is all (for today|for now|I wanted|I needed)(.|!|, bye.)
            (Goodbye|Bye|Bye bye)(,|) (assistant|my friend|then|and take care|see you soon|until tomorrow)(.|!|)
            (Have a nice day|Take care|Talk to you later|I am leaving)(!|.|, bye!)
            (Okay|Well), (bye|goodbye|I am off|that is it)(.|!|)"""),
        ("Goodbye! Have a nice day.",),
    ),
    Talk(
        "haiku",
        lines("""(Please compose|Compose|Please create|Create|Make up|Make|Invent|Produce) (a|one) haiku (on|about|for) {t}(.|!|, please.|)
            (A|One|One short|A nice) haiku (about|on|for) {t}(, please.|.|!|)
            (Give|Get|Sing|Send) me a haiku (on|about|for) {t}(.|!|, please.|)
            I (would like|want|need|would love) (a|one|to read a) haiku (about|on|for) {t}(.|!|, please.|)
            (Can|Could|Would) you (do|compose|make|create|invent) (a|one) haiku (about|on|for) {t}?
            Haiku (about|on|for|with) {t}(.|!|, please.|)
            (Could|Can|May) I (have|get|read) (a|one) haiku (for|about|on) {t}?
            Let me (read|hear|see|have) a haiku (on|about|for) {t}(.|!|)
            Write (me|down|for me|us) (a|one) haiku (about|on|for) {t}(.|!|, please.|)
            (Your task|Next|Now)(:|,) (write|) a haiku (about|on|for) {t}(.|!|)
            (I|We) (want you to|ask you to|would like you to) write a haiku (on|about|for) {t}(.|!|)
            (Create|Write) something short in haiku form about {t}."""),
        HAIKU,
    ),
    Talk(
        "poem",
        lines("""(Please compose|Compose|Please create|Create|Make up|Make|Invent|Produce) (a|one) poem (on|about|for) {t}(.|!|, please.|)
            (A|One|One short|A nice) poem (about|on|for) {t}(, please.|.|!|)
            (Give|Get|Sing|Send) me a poem (on|about|for) {t}(.|!|, please.|)
            I (would like|want|need|would love) (a|one|to read a) poem (about|on|for) {t}(.|!|, please.|)
            (Can|Could|Would) you (do|compose|make|create|invent) (a|one) poem (about|on|for) {t}?
            Poem (about|on|for|with) {t}(.|!|, please.|)
            (Could|Can|May) I (have|get|read) (a|one) poem (for|about|on) {t}?
            Let me (read|hear|see|have) a poem (on|about|for) {t}(.|!|)
            Write (me|down|for me|us) (a|one) poem (about|on|for) {t}(.|!|, please.|)
            (Your task|Next|Now)(:|,) (write|) a poem (about|on|for) {t}(.|!|)
            (I|We) (want you to|ask you to|would like you to) write a poem (on|about|for) {t}(.|!|)
            (Write me some lines of poetry|Some verses|A few rhymes|Poetry|A song) (on|about|for) {t}(.|, please.|)"""),
        POEM,
    ),
    Talk(
        "story",
        lines("""(Please compose|Compose|Please create|Create|Make up|Make|Invent|Produce) (a|one) story (on|about|for) {t}(.|!|, please.|)
            (A|One|One short|A nice) story (about|on|for) {t}(, please.|.|!|)
            (Give|Get|Sing|Send) me a story (on|about|for) {t}(.|!|, please.|)
            I (would like|want|need|would love) (a|one|to read a) story (about|on|for) {t}(.|!|, please.|)
            (Can|Could|Would) you (do|compose|make|create|invent) (a|one) story (about|on|for) {t}?
            Story (about|on|for|with) {t}(.|!|, please.|)
            (Could|Can|May) I (have|get|read) (a|one) story (for|about|on) {t}?
            Let me (read|hear|see|have) a story (on|about|for) {t}(.|!|)
            Write (me|down|for me|us) (a|one) story (about|on|for) {t}(.|!|, please.|)
            (Your task|Next|Now)(:|,) (write|) a story (about|on|for) {t}(.|!|)
            (I|We) (want you to|ask you to|would like you to) write a story (on|about|for) {t}(.|!|)
            (Tell|Read) (us|the children) a (tale|story|short story) (of|about|on) {t}.
            (Can|Could) you tell (me|us) a (tale|story) (of|about|on) {t}?
            A (bedtime story|fairy tale|tale) about {t}(, please.|.|)"""),
        ("Once upon a time there was {t}. Everybody loved {t}, and they all lived happily ever after.",),
    ),
    Talk(
        "joke",
        lines("""(Make me laugh|Say something funny|Be funny|Cheer me up|Amuse me)(.|!|, please.)
            (Do you know|Have you got|Have you heard|Can you tell|Do you have) (any jokes|some jokes|a funny one|one joke|a joke for me|some good jokes)?
            I (need|want|could use) a (good laugh|joke|laugh|good joke)(.|!|)
            (A joke|One joke|A good joke|A short joke), please.
            Can you be funny?
            (Give|Send) me (a|your best|one|a good) joke(.|!|, please.)
            Let (me|us) hear a (joke|good joke)(.|!|)
            Tell (us|me) (something funny|your best joke|one joke|a really good joke)(.|!|)"""),
        ("Why did the number seven eat so much? Because it wanted to be eight.",),
    ),
    Talk(
        "explain",
        lines("""What (can|do) you (say|know|tell me) about {t}?
            Describe {t}(.|, please.| to me.| briefly.)
            (Give|Write|I need) a (short|brief|simple) (explanation|description|summary) of {t}.
            Please (explain|describe|introduce) {t}(| briefly| shortly| to me| in simple words).
            (Teach|Tell|Inform) me (something|more|a little|a bit) about {t}.
            What does {t} mean(?| exactly?)
            I (want|would like|need) to (learn|hear|know|understand) (about|more about|something about) {t}.
            (Could|Can) you (describe|explain|introduce) {t}(?| to a child?| to me?| in a few words?| briefly?)
            (Put|Wrap) {t} (into a nutshell|into one sentence).
            (Summarize|Explain|Describe) {t} in (one sentence|a few words|two lines|short|simple words|easy words).
            (Introduce me to|Give me an idea of) {t}.
            Explain (what {t} is|the idea of {t}|the basics of {t}|to me what {t} is|{t} like I am five|{t} to us|{t} to my friend)(.| in simple words.|, please.)
            (Say|Write) a few words (on|about) {t}(.| please|)
            What (is|are) {t}(, briefly?| in simple words?| about?| exactly?)
            What's {t}?"""),
        (
            "I am only a small model, so here is all I know: {t} is a wide subject, and a good book about {t} will teach you more.",
        ),
    ),
    Talk(
        "machine_learning",
        lines("""What (can|do) you (say|know|tell me) about (machine learning|Machine Learning|ML)?
            Describe (machine learning|Machine Learning|ML)(.|, please.| to me.| briefly.)
            (Give|Write|I need) a (short|brief|simple) (explanation|description|summary) of (machine learning|Machine Learning|ML).
            Please (explain|describe|introduce) (machine learning|Machine Learning|ML)(| briefly| shortly| to me| in simple words).
            (Teach|Tell|Inform) me (something|more|a little|a bit) about (machine learning|Machine Learning|ML).
            What does (machine learning|Machine Learning|ML) mean(?| exactly?)
            I (want|would like|need) to (learn|hear|know|understand) (about|more about|something about) (machine learning|Machine Learning|ML).
            (Could|Can) you (describe|explain|introduce) (machine learning|Machine Learning|ML)(?| to a child?| to me?| in a few words?| briefly?)
            (Put|Wrap) machine learning (into a nutshell|into one sentence).
            (Summarize|Explain|Describe) (machine learning|Machine Learning|ML) in (one sentence|a few words|two lines|short|simple words|easy words).
            (Introduce me to|Give me an idea of) (machine learning|Machine Learning|ML).
            Explain (what machine learning is|the idea of Machine Learning|the basics of machine learning|to me what ML is|machine learning like I am five|Machine Learning to us)(.| in simple words.|, please.)
            (Say|Write) a few words (on|about) (machine learning|Machine Learning|ML)(.| please|)
            What (is|are) (machine learning|Machine Learning|ML)(, briefly?| in simple words?| about?| exactly?)
            What's (machine learning|Machine Learning|ML)?
            How does (machine learning|Machine Learning|ML) work?"""),
        ("In machine learning, a program finds rules in many examples instead of being told the rules by a person.",),
    ),
    Talk(
        "unknown",
        lines("""Who (invented|wrote|discovered|built|owns) {t}?
            Where (is|are|was) {t}?
            When did {t} (begin|end|start|happen)?
            Why (is|are) {t} so {t}?
            Who is the (president|king|head|mayor) of {t}?
            How (old|big|tall|far|expensive) is {t}?
            Which (country|city|animal) has the most {t}?
            When was {t} (built|born|found|made)?
            How do I (get to|make|cook|repair) {t}?
            Why do people (like|fear|buy) {t}?
            Is it true that {t} is near {t}?
            What happened (in|to) {t}?
            (What|Which) is the (capital|largest city|language) of {t}?"""),
        ("I am only a small model and do not know that.",),
    ),
    Talk(
        "opinion",
        lines("""(Do|Would) you like {t}?
            What (do you think|is your view|is your opinion) of {t}?
            (Are you fond of|Are you a friend of|Do you love|Do you hate) {t}?
            How do you (feel about|like|find) {t}?
            Is {t} (good|bad|nice|beautiful|boring)?
            Have you ever (tried|seen|been to|met) {t}?"""),
        ("I have no feelings about {t}, but many people do.",),
    ),
)
