"""Run snippets of Python as a notebook does: a JSON list of them on stdin, one namespace for all.

Prints a JSON list with what each printed, and the class and message of its error or null.
"""

import contextlib
import io
import json
import sys

scope, results = {"__name__": "__main__"}, []
for snippet in json.load(sys.stdin):
    printed, error = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        try:
            exec(snippet, scope)
        except Exception as problem:  # noqa: BLE001 - the test says which are right
            error = f"{type(problem).__name__}: {problem}"
    results.append([printed.getvalue(), error])
print(json.dumps(results))
