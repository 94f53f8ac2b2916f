// Streams an answer from a Yangtuo gateway.
//
//   npm install @grpc/grpc-js @grpc/proto-loader
//   node generate.js [SERVER] PROMPT          (SERVER defaults to 127.0.0.1:50051)
//
// The schema is read from the repository's proto/ folder at run time (YANGTUO_PROTO overrides where).
'use strict';

const path = require('path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const protoRoot = process.env.YANGTUO_PROTO || path.join(__dirname, '../../../proto');
const definition = protoLoader.loadSync('yangtuo/v1/generation.proto', {
  includeDirs: [protoRoot],
  longs: String,
  oneofs: true,
});
const { yangtuo } = grpc.loadPackageDefinition(definition);

const [prompt, server = '127.0.0.1:50051'] = process.argv.slice(2).reverse();
if (!prompt) {
  console.error('usage: node generate.js [SERVER] PROMPT');
  process.exit(2);
}

const client = new yangtuo.v1.GenerationService(server, grpc.credentials.createInsecure());
const call = client.Generate(
  {
    chat: { messages: [{ role: 'user', content: prompt }] },
    sampling: { temperature: 0 },
    stop: { maxNewTokens: 200 },
  },
  { deadline: Date.now() + 60000 },
);
call.on('data', (response) => {
  if (response.event === 'delta') {
    process.stdout.write(response.delta.text);
  } else if (response.event === 'finished') {
    const { promptTokens, completionTokens } = response.finished.usage;
    console.log(`\n[${promptTokens} prompt + ${completionTokens} answer tokens]`);
  }
});
call.on('error', (error) => {
  console.error(`${grpc.status[error.code]}: ${error.details}`);
  process.exitCode = 1;
  client.close();
});
call.on('end', () => client.close());
