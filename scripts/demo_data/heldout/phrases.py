"""Held-out ways to ask what the training kinds compute; no frame and no core occurs in training."""

from scripts.demo_data.kinds.base import Phrases
from scripts.demo_data.literals import lines

NOUN_FRAMES = lines("""Calculate for me {}.
    Show me {}.
    What would {} be?
    I wonder about {}.
    Please find out {}.
    Let us see {}.
    Can you show me {}?
    Help me with {}.""")
ORDER_FRAMES = lines("""Good evening, {}.
    I would like you to {}.
    Help me {}.
    Let us {}.
    Can you quickly {}?""")
QUESTION_FRAMES = lines("""Please say {}?
    My question is, {}?
    One more thing, {}?
    Any idea, {}?""")
SCRIPT_FRAMES = lines("""Write a script to print {}.
    Write code which outputs {}.
    Please make a Python program that computes {}.
    I want a script that shows {}.""")

PHRASES = {
    "add": Phrases(("{a} plus {b}", "the result of {a} + {b}"), ("have Python compute the sum {a} + {b}",), ("how much is {a} plus {b}",)),
    "subtract": Phrases(("the result of {a} - {b}", "{a} take away {b}"), ("have Python compute {a} minus {b}",), ("how much is {a} - {b}",)),
    "multiply": Phrases(("{a} multiplied by {b}", "the result of {a} * {b}"), ("have Python compute {a} times {b}",), ("how much is {a} times {b}",)),
    "divide": Phrases(("{a} divided by {b}", "the result of {a} / {b}"), ("have Python compute {a} divided by {b}",), ("how much is {a} divided by {b}",)),
    "power": Phrases(("{a} to the power {b}", "the result of {a} ** {b}"), ("have Python compute {a} to the power of {b}",), ("how much is {a} ** {b}",)),
    "remainder": Phrases(("{a} modulo {b}", "the remainder when {a} is divided by {b}"), ("have Python compute {a} mod {b}",), ("how much is {a} % {b}",)),
    "root": Phrases(("the square root of the number {a}",), ("have Python compute the square root of {a}",), ("how much is the square root of {a}",)),
    "factorial": Phrases(("the factorial of the number {a}",), ("have Python compute the factorial of {a}",), ("how much is {a} factorial",)),
    "gcd": Phrases(("the largest common divisor of {a} and {b}",), ("have Python compute the gcd of {a} and {b}",), ("what is the greatest common divisor of {a} and {b}",)),
    "percent": Phrases(("{a} percent of the number {b}",), ("have Python compute {a}% of {b}",), ("how much is {a} percent of {b}",)),
    "expression": Phrases(("the answer to {e}",), ("return the value of {e}",), ("what is the value of {e}",)),
    "today": Phrases(("today's date", "the date of today"), ("return today's date",), ("what is the date today", "what is today's date")),
    "year": Phrases(("the year today",), ("return the current year",), ("what year is it", "what year do we have")),
    "weekday_today": Phrases(("today's weekday",), ("return the weekday of today",), ("what day of the week is it", "which weekday do we have today")),
    "clock": Phrases(("the time now", "the clock time"), ("return the current time",), ("what time is it",)),
    "weekday": Phrases(("the day of the week on {d}",), ("return the weekday of {d}",), ("what weekday is {d}", "what day of the week is {d}")),
    "days_between": Phrases(("the count of days between {a} and {b}",), ("have Python compute the number of days between {a} and {b}",), ("how many days are there from {a} to {b}",)),
    "days_after": Phrases(("the day which is {n} days after {d}",), ("have Python compute {d} plus {n} days",), ("which date is {n} days after {d}",)),
    "days_from_now": Phrases(("the date {n} days from now",), ("have Python compute the date in {n} days",), ("what date is it in {n} days",)),
    "days_ago": Phrases(("the date {n} days ago",), ("have Python compute the date {n} days before today",), ("what date was it {n} days ago",)),
    "fibonacci": Phrases(("the first {n} Fibonacci numbers",), ("have Python compute the first {n} Fibonacci numbers",), ("what are the first {n} Fibonacci numbers",)),
    "primes": Phrases(("the first {n} prime numbers",), ("have Python compute the first {n} primes",), ("what are the first {n} prime numbers",)),
    "primes_below": Phrases(("the primes below {n}", "the prime numbers under {n}"), ("have Python compute all primes under {n}",), ("what are the primes below {n}",)),
    "squares": Phrases(("the first {n} square numbers",), ("have Python compute the first {n} squares",), ("what are the first {n} square numbers",)),
    "cubes": Phrases(("the first {n} cube numbers",), ("have Python compute the first {n} cubes",), ("what are the first {n} cube numbers",)),
    "evens": Phrases(("the first {n} even numbers",), ("have Python compute {n} even numbers",), ("what are the first {n} even numbers",)),
    "odds": Phrases(("the first {n} odd numbers",), ("have Python compute {n} odd numbers",), ("what are the first {n} odd numbers",)),
    "multiples": Phrases(("the first {n} multiples of {k}",), ("have Python compute {n} multiples of {k}",), ("what are the first {n} multiples of {k}",)),
    "powers": Phrases(("the first {n} powers of {k}",), ("have Python compute {n} powers of {k}",), ("what are the first {n} powers of {k}",)),
    "range": Phrases(("the integers from {a} to {b}",), ("list all integers from {a} to {b}",), ("what are the numbers from {a} to {b}",)),
    "sort_numbers": Phrases(("{s} in sorted order",), ("sort these numbers: {s}", "sort the list {s}"), ("what is {s} in ascending order",)),
    "sort_numbers_down": Phrases(("{s} sorted in descending order",), ("sort these numbers in descending order: {s}",), ("what is {s} in descending order",)),
    "sort_words": Phrases(("{s} in alphabetical order",), ("sort these words: {s}", "sort the words {s} by the alphabet"), ("what is {s} in alphabetical order",)),
    "sum_list": Phrases(("the sum of the numbers {s}",), ("add the numbers {s}",), ("what is the sum of these numbers: {s}",)),
    "mean_list": Phrases(("the average of the numbers {s}",), ("have Python compute the mean of {s}",), ("what is the average of {s}",)),
    "largest": Phrases(("the largest of the numbers {s}",), ("return the maximum of {s}",), ("what is the largest of {s}",)),
    "smallest": Phrases(("the smallest of the numbers {s}",), ("return the minimum of {s}",), ("what is the smallest of {s}",)),
    "count_letter": Phrases(("the number of letters {q} in {w}",), ("count how often {q} occurs in {w}",), ("how many times does {q} occur in {w}", "how many {c}s are in {w}", "how many {c}'s are in {w}")),
    "length": Phrases(("the number of letters of {w}",), ("count the letters in {w}",), ("how many letters does the word {w} have",)),
    "vowels": Phrases(("the number of vowels in the word {w}",), ("count the vowels of {w}",), ("how many vowels does {w} have",)),
    "reverse": Phrases(("the word {w} backwards",), ("reverse the word {w}",), ("what is the reverse of {w}",)),
    "upper": Phrases(("{w} in upper case",), ("write {w} in capitals",), ("what is {w} in upper case",)),
    "count_words": Phrases(("the number of words of {w}",), ("count all words in {w}",), ("how many words are there in {w}",)),
    "convert": Phrases(("{v} {u} converted to {o}",), ("convert {v} {u} into {o}", "return {v} {u} in {o}"), ("what are {v} {u} in {o}", "how many {o} are {v} {u}", "how many {o} are in {v} {u}")),
}  # fmt: skip

TOOL_DESCRIPTIONS = (
    "Run a Python program to find the answer. Print the answer.",
    "Executes Python code and shows its output.",
)
SYSTEM_PROMPTS = ("You are a helpful and honest assistant.", "You are a useful assistant. Keep it short.")
JSON_PROMPTS = (
    'You are a Python programmer.\nReturn Python code as a JSON object with a single "code" property.',
    'You are a programmer. Reply with a JSON object that has one "code" property with the Python program.',
    'Return only a JSON object with the property "code": a Python script that prints the result.',
)
