"""Dates and the clock."""

from datetime import date
from random import Random

from scripts.demo_data.kinds.base import Kind, Phrases, Values
from scripts.demo_data.literals import lines
from scripts.demo_data.values import isodate

DATE = "from datetime import date\n"
DELTA = "from datetime import date, timedelta\n"


def nothing(rng: Random) -> Values:
    return {}


def one_date(rng: Random) -> Values:
    day = isodate(rng)
    if rng.random() < 0.6:
        return {"d": day, "c": f"date.fromisoformat('{day}')", "i": "date"}
    style, form = rng.choice((("%B %d, %Y", "{0:%B} {0.day}, {0.year}"), ("%d %B %Y", "{0.day} {0:%B} {0.year}")))
    text = form.format(date.fromisoformat(day))
    return {"d": text, "c": f"datetime.strptime('{text}', '{style}')", "i": "datetime"}


def two_dates(rng: Random) -> Values:
    return dict(zip("ab", sorted((isodate(rng), isodate(rng))), strict=True))


def days(rng: Random) -> Values:
    return {"n": str(rng.randint(2, 400)), "d": isodate(rng)}


KINDS = (
    Kind(
        "today",
        "dates",
        nothing,
        DATE + "print(date.today())",
        "Today is {output}.",
        Phrases(
            lines("""the (current|present) (date|day)
                  the date (today|now|right now)
                  the (calendar date|exact date) (of|for) today
                  the date of this day
                  (which|what) date it is (today|now|)
                  today's (calendar date|full date|exact date)"""),
            lines("""(tell me|print|show me) the (date|current date)
                  look up the date (of|for) today
                  check (the calendar for the date|today's date)
                  (say|print|find) (what|which) date it is"""),
            lines("""which (date|day) is it
                  what date (do we have today|is today|have we today)
                  what is (the current date|today's full date|the date of today|the date right now)
                  what's the (date|current date|date now)
                  what (day|date) is it today
                  which (date|day) (is|have we) today
                  what's today's (full date|calendar date)"""),
        ),
    ),
    Kind(
        "year",
        "dates",
        nothing,
        DATE + "print(date.today().year)",
        "It is {output}.",
        Phrases(
            lines("""the (current|present) year
                  the year (we are in|it is now|of today)
                  (which|what) year it is
                  the number of this year
                  this year's number"""),
            lines("""(tell me|print|show me|find) the (year|current year)
                  (say|print) which year it is
                  look up the year"""),
            lines("""which year (is it|is this|do we have|is it now)
                  what is the (current year|year|year now)
                  in (which|what) year are we (now|)
                  what year (is this|is it now|are we in)
                  what's the (year|current year)"""),
        ),
    ),
    Kind(
        "weekday_today",
        "dates",
        nothing,
        DATE + "print(date.today().strftime('%A'))",
        "Today is {output}.",
        Phrases(
            lines("""the current (weekday|day of the week)
                  the (day of the week|weekday) (today|now)
                  the weekday (we have|of this day)
                  which (weekday|day of the week) it is (today|now|)
                  today's (day of the week|name of the day)"""),
            lines("""(tell me|print|show me|find) the (weekday|current weekday|day of the week)
                  (say|print) which weekday it is
                  look up (the weekday of today|today's day of the week)"""),
            lines("""which weekday (is it|is today|is it today)
                  what weekday (is today|is it|do we have)
                  which day of the week (do we have|is it|is today)
                  what is the (weekday|day of the week) today
                  what day of the week (is today|do we have|is it now|is it today)
                  is it monday today"""),
        ),
    ),
    Kind(
        "clock",
        "dates",
        nothing,
        "from datetime import datetime\nprint(datetime.now().strftime('%H:%M'))",
        "It is {output}.",
        Phrases(
            lines("""the (current|present|exact) time
                  the time (of day|on the clock|right now|at the moment)
                  (what|which) time it is
                  what the clock says"""),
            lines("""(tell me|print|show me|find) the (time|current time)
                  look at the clock
                  (say|print) (what|which) time it is"""),
            lines("""what is the (time|time now|current time)
                  (which|what) time is it (now|right now|at the moment)
                  how late is it
                  what's the (time|time now|current time)
                  do you have the time
                  what does the clock say
                  which time is it"""),
        ),
    ),
    Kind(
        "weekday",
        "dates",
        one_date,
        "from datetime import {i}\nprint({c}.strftime('%A'))",
        "It is a {output}.",
        Phrases(
            lines("""the (weekday|day of the week) of {d}
                  the (weekday|name of the day) (on|for) {d}
                  (which|what) (weekday|day of the week) {d} (is|was)
                  the day of the week for {d}"""),
            lines("""(look up|find|tell me|determine) the (weekday|day of the week) (of|for|on) {d}
                  (say|print) which weekday {d} is"""),
            lines("""which (weekday|day of the week) (is|was|will be) {d}
                  on (which|what) (weekday|day of the week) (does|did) {d} fall
                  what (weekday|day of the week) (was|will be) {d}
                  what is the (weekday|day of the week) of {d}"""),
        ),
    ),
    Kind(
        "days_between",
        "dates",
        two_dates,
        DATE + "print((date.fromisoformat('{b}') - date.fromisoformat('{a}')).days)",
        "There are {output} days.",
        Phrases(
            lines("""the days (between {a} and {b}|from {a} until {b})
                  the number of days (from {a} to {b}|between {a} and {b})
                  the (distance|time|difference) in days (from {a} to {b}|between {a} and {b})
                  how many days (lie|there are) between {a} and {b}"""),
            lines("""count (the|all) days (from {a} to {b}|between {a} and {b})
                  (calculate|work out|find) the (number of days|days) (from {a} to {b}|between {a} and {b})"""),
            lines("""how many days (lie|are|were|are there) between {a} and {b}
                  how many days (pass|is it|does it take) from {a} (to|until) {b}
                  what is the number of days from {a} to {b}"""),
        ),
    ),
    Kind(
        "days_after",
        "dates",
        days,
        DELTA + "print(date.fromisoformat('{d}') + timedelta(days={n}))",
        "It is {output}.",
        Phrases(
            lines("""the (date|day) {n} days (after|later than|past) {d}
                  {d} (plus|and) {n} days
                  the day that (comes|follows|lies) {n} days after {d}
                  the date of {d} plus {n} days"""),
            lines("""add {n} days to {d}
                  (count|go) {n} days (on|forward) from {d}
                  (calculate|find|work out) the (date|day) {n} days after {d}
                  (calculate|find|work out) {d} (+|and) {n} days"""),
            lines("""which (day|date) (comes|follows|lies|is it) {n} days after {d}
                  what is the (date|day) {n} days after {d}
                  what (day|date) is {n} days after {d}
                  what is {d} plus {n} days"""),
        ),
    ),
    Kind(
        "days_from_now",
        "dates",
        days,
        DELTA + "print(date.today() + timedelta(days={n}))",
        "It will be {output}.",
        Phrases(
            lines("""the (date|day) in {n} days (time|)
                  the (date|day) {n} days (from today|after today|ahead)
                  today (plus|and) {n} days
                  the (date|day) when {n} days (have passed|are over)
                  the day that is {n} days from now"""),
            lines("""add {n} days to (today|now|today's date)
                  (count|go) {n} days (on|forward) from (today|now)
                  (calculate|find|work out) the (date|day) (in {n} days|{n} days from now|{n} days after today)"""),
            lines("""which (date|day) is (in {n} days|{n} days from now|it in {n} days)
                  what is the (date|day) {n} days (from today|from now|after today)
                  what (date|day) (will it be|comes) in {n} days
                  what will the date be in {n} days"""),
        ),
    ),
    Kind(
        "days_ago",
        "dates",
        days,
        DELTA + "print(date.today() - timedelta(days={n}))",
        "It was {output}.",
        Phrases(
            lines("""the (date|day) {n} days (before today|back|earlier)
                  today minus {n} days
                  the (date|day) as it was {n} days ago
                  the day that was {n} days ago
                  the date of {n} days ago"""),
            lines("""subtract {n} days from (today|now|today's date)
                  (count|go) {n} days (back|backwards) from (today|now)
                  go back {n} days from (today|now)
                  (calculate|find|work out) the (date|day) (of {n} days ago|{n} days back|{n} days ago)"""),
            lines("""which (date|day) was (it {n} days back|{n} days ago|it {n} days ago)
                  what was the (date|day) {n} days (before today|ago|back)
                  what day was it {n} days (ago|back)"""),
        ),
    ),
)
