"""Held-out tools with schemas and requests; names and arguments are reserved in `reserved`."""

from dataclasses import dataclass
from random import Random
from typing import Any

from mistral_common.protocol.instruct.tool_calls import Tool

from scripts.demo_data.heldout.names import CITIES, PEOPLE, TOPICS
from scripts.demo_data.samples import make_tool


@dataclass(frozen=True, slots=True)
class HeldTool:
    """A tool; slots of the requests are the names of its arguments."""

    tool: Tool
    requests: tuple[str, ...]


def held(name: str, description: str, properties: dict[str, Any], *requests: str) -> HeldTool:
    """Return a tool whose arguments are all required."""
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return HeldTool(make_tool(name, description, schema), requests)


def text(description: str) -> dict[str, str]:
    """Return the schema of a string."""
    return {"type": "string", "description": description}


def whole(description: str) -> dict[str, str]:
    """Return the schema of an integer."""
    return {"type": "integer", "description": description}


TOOLS = (
    held("get_current_weather", "Get the current weather",
         {"location": text("The city and state, e.g. San Francisco, CA"),
          "format": {"type": "string", "enum": ["celsius", "fahrenheit"],
                     "description": "The temperature unit to use. Infer this from the users location."}},
         "What's the weather like today in {location}?", "How is the weather in {location}?",
         "Tell me the weather in {location} in {format}."),
    held("send_email", "Send an email to a person", {"recipient": text("Who gets the email"), "subject": text("The subject line")},
         "Send an email to {recipient} about {subject}.", "Please send an email to {recipient} with subject {subject}"),
    held("convert_currency", "Convert money",
         {"amount": {"type": "number", "description": "How much money"}, "source_currency": text("Source currency"),
          "target_currency": text("Target currency")},
         "Convert money: amount {amount}, source currency {source_currency}, target currency {target_currency}.",
         "Convert {amount} money from {source_currency} to {target_currency}."),
    held("book_table", "Book a table in a restaurant", {"restaurant": text("Name of the restaurant"), "guests": whole("How many guests")},
         "Book a table at {restaurant} with {guests} guests.", "Can you book a table at {restaurant} for {guests} guests?"),
    held("set_timer", "Set a timer", {"minutes": whole("Minutes to wait")},
         "Set a timer for {minutes} minutes.", "Please set the timer to {minutes} minutes"),
    held("translate_text", "Translate a text", {"text": text("The text"), "language": text("The language")},
         "Translate '{text}' to {language}.", "Translate the text {text} to the language {language}."),
    held("search_flights", "Search flights between two cities",
         {"origin": text("City of departure"), "destination": text("City of arrival"), "date": text("Day as YYYY-MM-DD")},
         "Search flights from {origin} to {destination} on {date}.", "Find me flights from {origin} to {destination} for {date}"),
    held("get_stock_price", "Get the price of a stock", {"symbol": text("The ticker symbol, e.g. AAPL")},
         "What is the stock price of {symbol}?", "Get the price of the stock {symbol}."),
    held("find_recipe", "Find a recipe", {"ingredient": text("Main ingredient")},
         "Find a recipe with {ingredient}.", "I need a recipe with the ingredient {ingredient}."),
    held("play_music", "Play music of an artist", {"artist": text("Name of the artist")},
         "Play music by {artist}.", "Please play some music of {artist}"),
    held("order_taxi", "Order a taxi", {"pickup": text("Where to pick up"), "destination": text("Where to go")},
         "Order a taxi from {pickup} to {destination}.", "I need a taxi from {pickup} to {destination}"),
    held("add_contact", "Add a contact to the phone book", {"recipient": text("Name of the person"), "phone": text("Phone number")},
         "Add a contact for {recipient} with phone {phone}.", "Add {recipient} with the phone {phone} as a contact."),
    held("rent_bike", "Rent a bike at a station", {"station": text("The station"), "hours": whole("How many hours")},
         "Rent a bike at {station} for {hours} hours.", "Can I rent a bike at the station {station} for {hours} hours?"),
    held("water_garden", "Water the garden", {"zone": text("Part of the garden"), "liters": whole("Liters of water")},
         "Water the garden in {zone} with {liters} liters.", "Please water the garden, zone {zone}, liters {liters}."),
)  # fmt: skip

DRAWN: dict[str, tuple[str, ...]] = {
    "location": tuple(CITIES), "origin": tuple(CITIES), "destination": tuple(CITIES), "pickup": tuple(CITIES),
    "recipient": tuple(PEOPLE), "artist": tuple(PEOPLE), "restaurant": ("Luigi", "Blue Door", "Golden Fork", "Casa Maria"),
    "subject": tuple(TOPICS), "text": ("good morning", "thank you", "where is the train"), "station": tuple(CITIES),
    "language": ("French", "German", "Spanish", "Italian"), "symbol": ("AAPL", "MSFT", "NVDA", "TSLA"),
    "source_currency": ("EUR", "USD", "GBP"), "target_currency": ("JPY", "CHF", "SEK"),
    "ingredient": ("tomatoes", "potatoes", "rice", "mushrooms"), "zone": ("north", "south", "east"),
}  # fmt: skip
MOST = {"amount": 9999, "guests": 12, "minutes": 90, "hours": 9, "liters": 500}


def draw_arguments(rng: Random, held_tool: HeldTool) -> dict[str, Any]:
    """Draw a value for each argument."""
    schema = held_tool.tool.function.parameters["properties"]
    return {name: draw_value(rng, name, schema[name]) for name in schema}


def draw_value(rng: Random, name: str, schema: dict[str, Any]) -> Any:
    """Draw a value of the schema's type."""
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if name in MOST:
        return rng.randint(2, MOST[name])
    if name == "date":
        return f"20{rng.randint(25, 39)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    return f"555-{rng.randint(1000, 9999)}" if name == "phone" else rng.choice(DRAWN[name])
