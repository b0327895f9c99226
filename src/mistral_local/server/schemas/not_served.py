"""Fields of the hosted APIs that are refused, and why; each could change an answer, so that none may be passed over."""

NOT_SERVED = {
    "prompt_mode": "the hosted system prompt for reasoning is not here; send your own, or reasoning_effort",
    "guardrails": "not here; mistral-serve --content_filter judges prompts",
    "prompt_logprobs": "only new tokens are scored",
    "top_prompt_logprobs": "only new tokens are scored",
    "functions": "an older form of tools; send tools",
    "function_call": "an older form of tool_choice; send tool_choice",
    "web_search_options": "this server searches nothing",
    "audio": "answers are text",
    "verbosity": "not here; say it in a message",
}
