"""What all clients ask."""

USER = [{"role": "user", "content": "Hello, how are you?"}]
TOO_LONG = [{"role": "user", "content": "word " * 2000}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
SAFE_PROMPT = (
    "Always assist with care, respect, and truth. Respond with utmost utility yet securely. Avoid harmful, unethical, "
    "prejudiced, or negative content. Ensure replies promote fairness and positivity."
)


def raised(kind, call, **arguments):
    """The error that a call raises; it must be of this class itself."""
    try:
        call(**arguments)
    except kind as error:
        assert type(error) is kind, repr(error)  # noqa: PT017 - there is no pytest in these environments
        return error
    raise AssertionError(f"no {kind.__name__} was raised")
