"""Events and answers of tasks/ as the JSON that clients read."""
