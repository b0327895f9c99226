// The JavaScript client of Azure AI inference.  Prints a line of JSON per check, as run_checks.py does.
import ModelClient, { isUnexpected } from "@azure-rest/ai-inference";
import { AzureKeyCredential } from "@azure/core-auth";

const { AZURE_INFERENCE_ENDPOINT: endpoint, AZURE_INFERENCE_CREDENTIAL: key } = process.env;
// The client takes http:// only if it is told to.
const client = ModelClient(endpoint, new AzureKeyCredential(key), { allowInsecureConnection: true });
const messages = [{ role: "user", content: "Hello!" }];

function same(one, other) {
  if (JSON.stringify(one) !== JSON.stringify(other)) throw new Error(`${JSON.stringify(one)} is not ${JSON.stringify(other)}`);
}

async function check_chat_with_extra_parameters() {
  const response = await client.path("/chat/completions").post({
    headers: { "extra-params": "passthrough" },
    body: { messages, temperature: 0, max_tokens: 3, logprobs: true },
  });
  if (isUnexpected(response)) throw response.body.error;
  same(response.body.choices[0].logprobs.content.length, 3);
}

async function check_errors_have_their_code() {
  const response = await client.path("/chat/completions").post({ body: { messages, temperature: 3 } });
  same(isUnexpected(response), true);
  same([response.status, response.body.error.code], ["422", "invalid_field"]);
}

for (const check of [check_chat_with_extra_parameters, check_errors_have_their_code]) {
  let error = null;
  try {
    await check();
  } catch (problem) {
    error = problem.stack ?? JSON.stringify(problem);
  }
  console.log(JSON.stringify({ check: check.name, error }));
}
