// Reads a JSON array of Kubernetes objects on standard input and prints a JSON array of problems, one
// string each ("Deployment gateway: /spec/replicas must be integer").
//
// Built-in kinds, KEDA's and the Prometheus operator's are checked with the published models; those
// ignore fields that they do not know, so each object's field names are also looked up among the names
// that its kind's schemas mention: a misspelt field is a problem too. Kinds that no package has are
// checked against the JSON schemas beside this file, their pod templates as PodTemplateSpecs.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import Ajv from 'ajv';

const here = path.dirname(fileURLToPath(import.meta.url));
const modules = path.join(here, 'node_modules');
const require = createRequire(import.meta.url);
const OWN = { LeaderWorkerSet: 'leaderworkerset.json', InferencePool: 'inferencepool.json' };
const PACKAGES = {
  'keda.sh': '@kubernetes-models/keda/keda.sh',
  'monitoring.coreos.com': '@kubernetes-models/prometheus-operator/monitoring.coreos.com',
};
// Maps whose keys are the user's own words.
const FREE = new Set(['labels', 'annotations', 'matchLabels', 'selector', 'data', 'binaryData', 'stringData', 'nodeSelector',
  'requests', 'limits', 'capacity', 'hard', 'metadata:trigger']);

const ajv = new Ajv({ allErrors: true });
const words = new Map();

// Every property name that a compiled schema, or one that it imports, mentions.
function wordsOf(file) {
  if (!words.has(file)) {
    const found = new Set();
    words.set(file, found);
    const text = fs.readFileSync(file, 'utf8');
    for (const match of text.matchAll(/data\d*\.([A-Za-z_$][\w$]*)/g)) found.add(match[1]);
    for (const match of text.matchAll(/"\/([A-Za-z_$][\w$]*)/g)) found.add(match[1]);
    for (const match of text.matchAll(/from\s*"(\.[^"]+|[^"]+_schemas\/[^"]+)"/g)) {
      for (const word of wordsOf(resolve(match[1], file))) found.add(word);
    }
  }
  return words.get(file);
}

function resolve(specifier, from) {
  if (specifier.startsWith('.')) return path.resolve(path.dirname(from), specifier);
  return path.join(modules, specifier.endsWith('.js') ? specifier : `${specifier}.js`);
}

function unknownFields(value, known, where, problems) {
  if (Array.isArray(value)) {
    value.forEach((item, i) => unknownFields(item, known, `${where}/${i}`, problems));
  } else if (value !== null && typeof value === 'object') {
    for (const [key, item] of Object.entries(value)) {
      if (!known.has(key)) problems.push(`${where}/${key} is no field of this kind`);
      const isTrigger = key === 'metadata' && /triggers\/\d+$/.test(where);
      if (!FREE.has(key) && !isTrigger) unknownFields(item, known, `${where}/${key}`, problems);
      // A label selector under the name "selector" has fields of its own.
      if (key === 'selector' && item && item.matchLabels === undefined && Object.values(item).some((v) => typeof v !== 'string')) {
        unknownFields(item, known, `${where}/${key}`, problems);
      }
    }
  }
}

async function checkWith(specifier, kind, object, problems, prefix = '') {
  const file = path.join(modules, `${specifier}.js`);
  const { [kind]: Model } = await import(pathToFileURL(file));
  try {
    new Model(object).validate();
  } catch (error) {
    problems.push(`${prefix}${error.message}`);
  }
  const schema = /from\s*"([^"]+_schemas\/[^"]+)"/.exec(fs.readFileSync(file, 'utf8'))[1];
  // Plain strings that nothing constrains are not mentioned by a compiled schema.
  const known = new Set(['apiVersion', 'kind', 'metadata', 'description', ...wordsOf(resolve(schema, file))]);
  unknownFields(object, known, prefix, problems);
}

async function check(object) {
  const problems = [];
  const [group, version] = object.apiVersion.includes('/') ? object.apiVersion.split('/') : ['', object.apiVersion];
  if (OWN[object.kind]) {
    const validate = ajv.compile(require(path.join(here, OWN[object.kind])));
    if (!validate(object)) problems.push(...validate.errors.map((e) => `${e.instancePath} ${e.message} ${JSON.stringify(e.params)}`));
    for (const name of ['leaderTemplate', 'workerTemplate']) {
      const template = object.spec?.leaderWorkerTemplate?.[name];
      if (template) await checkWith('kubernetes-models/v1/PodTemplateSpec', 'PodTemplateSpec', template, problems, `/${name}`);
    }
  } else {
    const root = PACKAGES[group] ?? (group ? `kubernetes-models/${group}` : 'kubernetes-models');
    try {
      await checkWith(`${root}/${version}/${object.kind}`, object.kind, object, problems);
    } catch (error) {
      problems.push(`no schema for ${object.apiVersion} ${object.kind}: ${error.message}`);
    }
  }
  return problems.map((problem) => `${object.kind} ${object.metadata?.name}: ${problem}`);
}

const objects = JSON.parse(fs.readFileSync(0, 'utf8'));
const problems = [];
for (const object of objects) problems.push(...(await check(object)));
console.log(JSON.stringify(problems));
