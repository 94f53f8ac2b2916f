// What llama.cpp makes of a GGUF file.
//
// Usage: node llama_cpp_peer.mjs QUESTION ANSWER
// with a file QUESTION of {"model": FILE, "texts": [...], "prompts": [[id, ...], ...], "continue": N}.
// Writes the file ANSWER, {"tokens": [[id, ...], ...], "texts": [...], "greedy": [[id, ...], ...]}: the texts as ids
// (special tokens spelled out in a text are text), these ids as texts, and N most probable ids after
// each prompt.

import {readFileSync, writeFileSync} from "node:fs";
import {getLlama} from "node-llama-cpp";

const question = JSON.parse(readFileSync(process.argv[2], "utf8"));
const llama = await getLlama({gpu: false, build: "never", maxThreads: 1, logLevel: "error"});
const prompts = question.prompts ?? [];
const model = await llama.loadModel({modelPath: question.model, vocabOnly: prompts.length === 0});
const answer = {tokens: [], texts: [], greedy: []};
for (const text of question.texts ?? []) {
  const ids = model.tokenize(text, false);
  answer.tokens.push(ids);
  answer.texts.push(model.detokenize(ids, false));
}
if (prompts.length > 0) {
  const context = await model.createContext({contextSize: 256, sequences: 1});
  const sequence = context.getSequence();
  for (const prompt of prompts) {
    await sequence.clearHistory();
    const ids = [];
    for await (const id of sequence.evaluate(prompt, {temperature: 0, yieldEogToken: true})) {
      ids.push(id);
      if (ids.length === question.continue)
        break;
    }
    answer.greedy.push(ids);
  }
}
writeFileSync(process.argv[3], JSON.stringify(answer));
process.exit(0);
