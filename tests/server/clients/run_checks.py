"""Run the checks of a module beside this file, in the environment of a client: `python run_checks.py MODULE`.

Prints a line of JSON per check: its name, and the traceback if it failed.
"""

import importlib
import json
import sys
import traceback

for name, check in vars(importlib.import_module(sys.argv[1])).items():
    if name.startswith("check_"):
        error = None
        try:
            check()
        except Exception:  # noqa: BLE001 - the test that asked for the check shows it
            error = traceback.format_exc()
        print(json.dumps({"check": name, "error": error}), flush=True)
