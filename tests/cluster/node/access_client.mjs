// What OpenAI's own client makes of API keys and limits, as JSON on standard output.
//   node access_client.mjs http://127.0.0.1:8080/v1 KEY MODEL
import OpenAI from "openai";

const [baseURL, apiKey, model] = process.argv.slice(2);
const messages = [{ role: "user", content: "春" }];
const ask = (client, change) => client.chat.completions.create({ model, messages, max_tokens: 2, ...change });
const refusal = async (client, change) => {
  try {
    await ask(client, change);
    return ["not refused"];
  } catch (error) {
    return [error.constructor.name, error.status, error.code, error.type];
  }
};

const told = {};
told.wrongKey = await refusal(new OpenAI({ baseURL, apiKey: "yt-wrong", maxRetries: 0 }));
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
told.models = (await client.models.list()).data.map((one) => one.id);
told.otherModel = await refusal(client, { model: "other" });
const { data, response } = await ask(client).withResponse();
told.choices = data.choices.length;
told.remaining = response.headers.get("x-ratelimit-remaining-requests");
// The key allows 20 requests a minute: uses them up, then waits as the server says.
const used = [];
for (let i = 0; i < 25 && (used.length === 0 || used.at(-1)[0] === "not refused"); ++i) {
  used.push(await refusal(client));
}
told.limited = used.at(-1);
const started = performance.now();
told.afterRetry = (await ask(new OpenAI({ baseURL, apiKey, maxRetries: 3 }))).choices.length;
told.waitedSeconds = (performance.now() - started) / 1000;
console.log(JSON.stringify(told));
