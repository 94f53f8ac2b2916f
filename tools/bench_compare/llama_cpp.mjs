// Measures a GGUF file through llama.cpp as node-llama-cpp packages it, with the same work as
// `yangtuo bench engine`, and prints JSON. Run by `yangtuo bench compare`.
//
//   node llama_cpp.mjs PACKAGE MODEL THREADS PROMPT DECODE REPEATS BATCH...
//
// PACKAGE is the folder of the installed package node-llama-cpp.

import path from "node:path";
import {pathToFileURL} from "node:url";

const [packageFolder, modelPath, ...numbers] = process.argv.slice(2);
const [threads, promptTokens, decodeTokens, repeats, ...batches] = numbers.map(Number);
const {getLlama} = await import(pathToFileURL(path.join(packageFolder, "dist", "index.js")).href);

const decodePrompt = 32;
const begin = performance.now();
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const model = await llama.loadModel({modelPath, gpuLayers: 0});
const loadSeconds = (performance.now() - begin) / 1000;

const madeUp = (index) => (index * 7919 + 300) % 55000;
const prompt = (sequence, count) =>
  Array.from({length: count}, (_, i) => madeUp(sequence * count + i));

async function newContext(sequences, tokens, batchSize) {
  return await model.createContext({
    contextSize: tokens, sequences, batchSize, threads: {ideal: threads, min: threads},
    flashAttention: false
  });
}

async function measurePrefill() {
  let best = 0;
  const context = await newContext(1, promptTokens + 16, promptTokens);
  const sequence = context.getSequence();
  for (let i = 0; i < repeats; ++i) {
    await sequence.clearHistory();
    const start = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(prompt(0, promptTokens));
    best = Math.max(best, promptTokens / ((performance.now() - start) / 1000));
  }
  await context.dispose();
  return best;
}

// Every sequence waits for the others after its prompt, so that decoding alone is timed.
async function measureDecode(count) {
  let best = 0;
  const tokens = decodePrompt + decodeTokens + 8;
  const context = await newContext(count, tokens, Math.max(512, count));
  const sequences = Array.from({length: count}, () => context.getSequence());
  for (let i = 0; i < repeats; ++i) {
    const iterators = [];
    for (let s = 0; s < count; ++s) {
      await sequences[s].clearHistory();
      const ids = prompt(s, decodePrompt);
      iterators.push(sequences[s].evaluate(ids, {temperature: 0, yieldEogToken: true}));
    }
    await Promise.all(iterators.map((iterator) => iterator.next()));
    const start = performance.now();
    await Promise.all(iterators.map(async (iterator) => {
      for (let t = 0; t < decodeTokens; ++t) {
        await iterator.next();
      }
    }));
    best = Math.max(best, (count * decodeTokens) / ((performance.now() - start) / 1000));
    await Promise.all(iterators.map((iterator) => iterator.return()));
  }
  await context.dispose();
  return best;
}

const result = {load_seconds: loadSeconds, prefill: await measurePrefill(), decode: {}};
for (const batch of batches) {
  result.decode[String(batch)] = await measureDecode(batch);
}
console.log(JSON.stringify(result));
process.exit(0);
