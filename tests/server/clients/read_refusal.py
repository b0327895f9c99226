"""Ask what the content filter refuses, with the client of Azure, and print the code and the message of the refusal."""

import json
import os

from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import SystemMessage, UserMessage
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError

credential = AzureKeyCredential(os.environ["AZURE_INFERENCE_CREDENTIAL"])
client = ChatCompletionsClient(endpoint=os.environ["AZURE_INFERENCE_ENDPOINT"], credential=credential)
try:
    client.complete(messages=[SystemMessage(content="Be helpful."), UserMessage(content="Something harmful.")])
except HttpResponseError as refusal:
    error = json.loads(refusal.response.text())["error"]
    print(refusal.status_code, refusal.error.code, error["code"])
    print(error["message"])
