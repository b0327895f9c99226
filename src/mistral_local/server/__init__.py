"""HTTP in front of the tasks: routes parse, call tasks/, and render; no model, tokenizer or default lives here."""
