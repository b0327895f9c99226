"""Answer a question with a program that the model writes and the sandbox runs: `python ask_and_execute.py tools|json QUESTION`.

With `tools` the model may call a function that runs Python, and reads what it printed; with `json` it must answer with a
program.  Key and addresses come from the environment.
"""

import json
import os
import sys

from mistralai import Mistral
from rizaio import Riza

RUN_PYTHON = {
    "type": "function",
    "function": {
        "name": "run_python",
        "description": "Run a Python program and return what it prints.",
        "parameters": {
            "type": "object",
            "properties": {"code": {"type": "string", "description": "The program."}},
            "required": ["code"],
        },
    },
}
mode, question = sys.argv[1:]
mistral, riza = Mistral(api_key=os.environ["MISTRAL_API_KEY"]), Riza()
asked = {"role": "user", "content": question}


def execute(code):
    """What a program prints, or why it failed."""
    done = riza.command.exec(language="PYTHON", code=code)
    return done.stderr if done.exit_code > 0 else done.stdout


if mode == "tools":
    choice = mistral.chat.complete(model="any", messages=[asked], tools=[RUN_PYTHON], tool_choice="auto").choices[0]
    if choice.finish_reason == "tool_calls":
        (call,) = choice.message.tool_calls
        printed = execute(json.loads(call.function.arguments)["code"])
        print("printed:", printed.strip())
        result = {"role": "tool", "name": call.function.name, "content": printed, "tool_call_id": call.id}
        choice = mistral.chat.complete(model="any", messages=[asked, choice.message, result]).choices[0]
    print("answer:", choice.message.content)
else:
    system = {"role": "system", "content": 'Return Python code as a JSON object with a single "code" property.'}
    form = {"type": "json_object"}
    answer = mistral.chat.complete(model="any", messages=[system, asked], response_format=form)
    print("printed:", execute(json.loads(answer.choices[0].message.content)["code"]).strip())
