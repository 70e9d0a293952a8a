// Limits on a document, in the order they cost: tokens (before it is parsed), then depth, equal fields and aliases,
// every fragment measured once. The same bounds stand in the subgraphs (resolvers/limits.py), which do not rely on
// these.
import { GraphQLError, Kind, parse, validate } from 'graphql';

import { named } from './errors.mjs';

export const LIMITS = Object.freeze({ tokens: 1_500, depth: 16, equalFields: 20, aliases: 50, errors: 10, jsonDepth: 512 });

/** What a selection set holds with all it spreads: levels, aliases, how often each response key comes at its level. */
class Shape {
  depth = 0;
  aliases = 0;
  mostEqual = 0;
  keys = new Map();

  /** Adds what stands at the same level: an inline or named fragment. */
  take(other) {
    this.depth = Math.max(this.depth, other.depth);
    this.aliases += other.aliases;
    for (const [key, times] of other.keys) this.keys.set(key, (this.keys.get(key) ?? 0) + times);
    this.mostEqual = Math.max(this.mostEqual, other.mostEqual);
  }

  takeField(field, below) {
    const key = (field.alias ?? field.name).value;
    this.keys.set(key, (this.keys.get(key) ?? 0) + 1);
    this.aliases += below.aliases + (field.alias ? 1 : 0);
    this.depth = Math.max(this.depth, below.depth + 1);
    this.mostEqual = Math.max(this.mostEqual, below.mostEqual);
  }
}

class Measuring {
  #fragments = new Map();
  #known = new Map();

  constructor(document) {
    this.document = document;
    for (const part of document.definitions) {
      if (part.kind === Kind.FRAGMENT_DEFINITION) this.#fragments.set(part.name.value, part);
    }
  }

  selection(node) {
    const shape = new Shape();
    for (const chosen of node?.selectionSet?.selections ?? []) {
      if (chosen.kind === Kind.FRAGMENT_SPREAD) shape.take(this.fragment(chosen.name.value));
      else if (chosen.kind === Kind.FIELD) shape.takeField(chosen, this.selection(chosen));
      else shape.take(this.selection(chosen));
    }
    shape.mostEqual = Math.max(shape.mostEqual, ...shape.keys.values());
    return shape;
  }

  fragment(name) {
    if (!this.#known.has(name)) {
      this.#known.set(name, new Shape()); // one that spreads itself counts nothing here; validation names it
      this.#known.set(name, this.selection(this.#fragments.get(name)));
    }
    return this.#known.get(name);
  }

  /** One shape per operation and per fragment, also of fragments that nothing spreads. */
  shapes() {
    return this.document.definitions.map((part) => (
      part.kind === Kind.FRAGMENT_DEFINITION ? this.fragment(part.name.value) : this.selection(part)
    ));
  }
}

function checked(document) {
  const shapes = new Measuring(document).shapes();
  const most = (read) => Math.max(0, ...shapes.map(read));
  if (most((shape) => shape.depth) > LIMITS.depth) {
    throw named('DOCUMENT_TOO_DEEP', `The document nests deeper than ${LIMITS.depth} levels.`, 400);
  }
  if (most((shape) => shape.mostEqual) > LIMITS.equalFields) {
    const message = `A selection repeats one field more than ${LIMITS.equalFields} times.`;
    throw named('DOCUMENT_TOO_MANY_EQUAL_FIELDS', message, 400);
  }
  if (most((shape) => shape.aliases) > LIMITS.aliases) {
    throw named('DOCUMENT_TOO_MANY_ALIASES', `The document has more than ${LIMITS.aliases} aliases.`, 400);
  }
  return document;
}

function limitedParse(source, options) {
  try {
    return checked(parse(source, { ...options, maxTokens: LIMITS.tokens }));
  } catch (error) {
    if (error instanceof GraphQLError && /more tha[nt] [0-9]+ tokens/.test(error.message)) {
      throw named('DOCUMENT_TOO_MANY_TOKENS', `The document has more than ${LIMITS.tokens} tokens.`, 400);
    }
    throw error;
  }
}

/** Stops looking for faults when an answer is full, and never names what the document nearly said. */
function limitedValidate(schema, document, rules, options) {
  return validate(schema, document, rules, { ...options, maxErrors: LIMITS.errors - 1, hideSuggestions: true });
}

export function limitsPlugin() {
  return {
    onParse({ setParseFn }) {
      setParseFn(limitedParse);
    },
    onValidate({ setValidationFn }) {
      setValidationFn(limitedValidate);
    },
  };
}

/** How deep brackets nest in JSON text; looks at bytes only, so that nothing recursive touches the text before. */
export function jsonDepth(text) {
  let depth = 0;
  let deepest = 0;
  for (let at = 0, quoted = false; at < text.length; at += 1) {
    const byte = text[at];
    if (quoted) {
      if (byte === 0x5c) at += 1;
      else if (byte === 0x22) quoted = false;
    } else if (byte === 0x22) quoted = true;
    else if (byte === 0x7b || byte === 0x5b) deepest = Math.max(deepest, depth += 1);
    else if (byte === 0x7d || byte === 0x5d) depth -= 1;
  }
  return deepest;
}
