// What OpenAI's own client and LangChain's make of a cluster, as JSON on standard output.
//   node openai_client.mjs http://127.0.0.1:8080/v1
import OpenAI from "openai";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";

const baseURL = process.argv[2];
const prompt = "写一首题为《春望》的五言律诗。";
const client = new OpenAI({ baseURL, apiKey: "unused", maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const chat = { model, messages: [{ role: "user", content: prompt }], temperature: 0, max_tokens: 120 };

const told = {};
const whole = await client.chat.completions.create(chat);
told.chat = whole.choices[0].message.content;
told.streamed = "";
for await (const chunk of await client.chat.completions.create(
  { ...chat, stream: true, stream_options: { include_usage: true } })) {
  told.streamed += chunk.choices[0]?.delta?.content ?? "";
  told.usage = chunk.usage ?? told.usage;
}
told.completion = (await client.completions.create({ model, prompt: "春眠不觉晓", max_tokens: 8 })).choices[0].text;
// The package asks for base64 and decodes it by itself.
told.embedding = (await client.embeddings.create({ model, input: prompt })).data[0].embedding;

const refusal = async (change) => {
  try {
    await client.chat.completions.create({ ...chat, ...change });
    return "not refused";
  } catch (error) {
    return error;
  }
};
const absent = await refusal({ model: "absent" });
told.absentModel = [absent.status, absent.code];
const wrong = await refusal({ temperature: 1000 });
told.wrongValue = [wrong.status, wrong.param];

const schema = {
  type: "object", properties: { mood: { enum: ["glad", "sad"] }, year: { type: "integer", minimum: 600, maximum: 999 } },
  required: ["mood", "year"], additionalProperties: false,
};
told.schema = JSON.parse((await client.chat.completions.create({
  ...chat, max_tokens: 400, response_format: { type: "json_schema", json_schema: { name: "poem", strict: true, schema } },
})).choices[0].message.content);

const configuration = { baseURL };
const langchain = new ChatOpenAI({ model, temperature: 0, maxTokens: 120, apiKey: "unused", configuration });
told.langchain = (await langchain.invoke(prompt)).content;
told.langchainStreamed = "";
for await (const chunk of await langchain.stream(prompt)) {
  told.langchainStreamed += chunk.content;
}
told.langchainSchema = await new ChatOpenAI({ model, temperature: 0, maxTokens: 400, apiKey: "unused", configuration })
  .withStructuredOutput(schema, { method: "jsonSchema", name: "poem" }).invoke(prompt);
const embeddings = new OpenAIEmbeddings({ model, apiKey: "unused", configuration });
told.langchainEmbedding = await embeddings.embedQuery(prompt);

console.log(JSON.stringify(told));
