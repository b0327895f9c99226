"""Getting a checkpoint: fetch, verify, unpack and put in place; imports no torch and knows no terminal."""
