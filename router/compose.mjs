#!/usr/bin/env node
// Composes the supergraph from the subgraphs' SDL.
//
//   node router/compose.mjs rover.yaml supergraph/supergraph.graphql
//       writes the supergraph; any composition error OR hint fails (exit 1) and leaves the file alone.
//   node router/compose.mjs compose FILE
//       speaks as rover's composition plugin. With an executable `$APOLLO_HOME/.rover/bin/supergraph-v2.14.4` that says
//       `exec node router/compose.mjs "$@"` and APOLLO_ROVER_SKIP_UPDATE=1, rover's own binary (npm's launcher looks for
//       plugins elsewhere) composes offline, to the same bytes: `rover supergraph compose --config rover.yaml`.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

import { composeServices } from '@apollo/composition';
import { parse } from 'graphql';
import { parseDocument } from 'yaml';

/** [{name, url, typeDefs}] of a rover.yaml; SDL inline (`schema.sdl`) or by `schema.file`, relative to the yaml. */
export function services(path) {
  const config = parseDocument(readFileSync(path, 'utf8')).toJS();
  return Object.entries(config.subgraphs).map(([name, { routing_url: url, schema }]) => ({
    name,
    url,
    typeDefs: parse(schema.sdl ?? readFileSync(resolve(dirname(path), schema.file), 'utf8')),
  }));
}

/** {sdl, hints, errors}: `errors` and `hints` as [{code, message}]. */
export function composed(path) {
  const { supergraphSdl, hints = [], errors = [] } = composeServices(services(path));
  return {
    sdl: supergraphSdl,
    hints: hints.map((hint) => ({ code: hint.definition.code, message: hint.message, nodes: [] })),
    errors: errors.map((error) => ({ code: error.extensions?.code ?? 'UNKNOWN', message: error.message })),
  };
}

function asPlugin(path) {
  const { sdl, hints, errors } = composed(path);
  const failed = errors.length > 0;
  const answer = failed
    ? { Err: { build_errors: errors.map((error) => ({ ...error, type: 'composition', nodes: [] })) } }
    : { Ok: { supergraphSdl: sdl, hints } };
  process.stdout.write(`${JSON.stringify(answer)}\n`);
  return failed ? 1 : 0;
}

function asCommand(from, to) {
  const { sdl, hints, errors } = composed(from);
  const faults = [...errors, ...hints];
  for (const { code, message } of faults) process.stderr.write(`${code}: ${message}\n`);
  if (faults.length) return 1;
  writeFileSync(`${to}.new`, `${sdl.trimEnd()}\n`);
  renameSync(`${to}.new`, to);
  return 0;
}

function main(args) {
  if (args[0] === 'compose' && args.length === 2) return asPlugin(args[1]);
  if (args.length === 2) return asCommand(...args);
  process.stderr.write('usage: compose.mjs rover.yaml supergraph.graphql\n');
  return 2;
}

process.exitCode = main(process.argv.slice(2));
