"""Requests in, events out: chat, fill-in-the-middle, completion."""
