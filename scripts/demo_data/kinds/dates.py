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
            lines("""the current date
                  the date today
                  the calendar date of today
                  the date of this day
                  which date it is today
                  the present date"""),
            lines("""tell me the date
                  look up the date of today
                  check the calendar for the date
                  print the current date"""),
            lines("""which date is it
                  what date do we have today
                  what is the current date
                  what's the date
                  what day is it today
                  which day is it"""),
        ),
    ),
    Kind(
        "year",
        "dates",
        nothing,
        DATE + "print(date.today().year)",
        "It is {output}.",
        Phrases(
            lines("""the current year
                  the year we are in
                  the number of this year"""),
            lines("""tell me the year
                  print the current year"""),
            lines("""which year is it
                  what is the current year
                  in which year are we"""),
        ),
    ),
    Kind(
        "weekday_today",
        "dates",
        nothing,
        DATE + "print(date.today().strftime('%A'))",
        "Today is {output}.",
        Phrases(
            lines("""the current weekday
                  the day of the week today
                  the weekday of today"""),
            lines("""tell me the weekday
                  print the current weekday"""),
            lines("""which weekday is it
                  what weekday is today
                  which day of the week do we have"""),
        ),
    ),
    Kind(
        "clock",
        "dates",
        nothing,
        "from datetime import datetime\nprint(datetime.now().strftime('%H:%M'))",
        "It is {output}.",
        Phrases(
            lines("""the current time
                  the time of day
                  the time on the clock"""),
            lines("""tell me the time
                  look at the clock
                  print the current time"""),
            lines("""what is the time
                  which time is it
                  how late is it"""),
        ),
    ),
    Kind(
        "weekday",
        "dates",
        one_date,
        "from datetime import {i}\nprint({c}.strftime('%A'))",
        "It is a {output}.",
        Phrases(
            lines("""the weekday of {d}
                  the day of the week of {d}
                  the weekday on {d}"""),
            lines("""look up the weekday of {d}
                  find the day of the week for {d}"""),
            lines("""which weekday is {d}
                  on which weekday does {d} fall
                  which day of the week was {d}"""),
        ),
    ),
    Kind(
        "days_between",
        "dates",
        two_dates,
        DATE + "print((date.fromisoformat('{b}') - date.fromisoformat('{a}')).days)",
        "There are {output} days.",
        Phrases(
            lines("""the days between {a} and {b}
                  the number of days from {a} to {b}
                  the distance in days from {a} to {b}"""),
            lines("""count the days from {a} to {b}
                  count the days between {a} and {b}"""),
            lines("""how many days lie between {a} and {b}
                  how many days pass from {a} to {b}"""),
        ),
    ),
    Kind(
        "days_after",
        "dates",
        days,
        DELTA + "print(date.fromisoformat('{d}') + timedelta(days={n}))",
        "It is {output}.",
        Phrases(
            lines("""the date {n} days after {d}
                  the day {n} days later than {d}
                  {d} plus {n} days"""),
            lines("""add {n} days to {d}
                  count {n} days on from {d}"""),
            lines("""which day comes {n} days after {d}
                  what is the date {n} days after {d}"""),
        ),
    ),
    Kind(
        "days_from_now",
        "dates",
        days,
        DELTA + "print(date.today() + timedelta(days={n}))",
        "It will be {output}.",
        Phrases(
            lines("""the date in {n} days
                  the day {n} days from today
                  today plus {n} days"""),
            lines("""add {n} days to today
                  count {n} days on from today"""),
            lines("""which date is in {n} days
                  what is the date {n} days from today"""),
        ),
    ),
    Kind(
        "days_ago",
        "dates",
        days,
        DELTA + "print(date.today() - timedelta(days={n}))",
        "It was {output}.",
        Phrases(
            lines("""the date {n} days before today
                  the day {n} days back
                  today minus {n} days"""),
            lines("""subtract {n} days from today
                  go back {n} days from today"""),
            lines("""which date was it {n} days back
                  what was the date {n} days before today"""),
        ),
    ),
)
