// Questions about the schema itself are answered here, from the schema the client sees. The planner knows no `__schema`
// and no `__type`: asked together with data it fails, or (asked first) the data comes back as null.
import { GraphQLError, Kind, OperationTypeNode, execute, getOperationAST } from 'graphql';

const ABOUT = new Set(['__schema', '__type']);

/** The root selections with every named fragment in place, so that fields can be told apart wherever they stand. */
function flat(selectionSet, fragments) {
  return selectionSet.selections.map((chosen) => {
    if (chosen.kind === Kind.FIELD) return chosen;
    const { typeCondition, selectionSet: inner } = chosen.kind === Kind.INLINE_FRAGMENT
      ? chosen
      : fragments.get(chosen.name.value);
    const selections = flat(inner, fragments);
    const { directives } = chosen;
    return { kind: Kind.INLINE_FRAGMENT, typeCondition, directives, selectionSet: { kind: Kind.SELECTION_SET, selections } };
  });
}

/** The fields for which `keep(name)` holds; fragments that keep none are gone. */
function only(selections, keep) {
  return selections.flatMap((chosen) => {
    if (chosen.kind === Kind.FIELD) return keep(chosen.name.value) ? [chosen] : [];
    const kept = only(chosen.selectionSet.selections, keep);
    return kept.length ? [{ ...chosen, selectionSet: { ...chosen.selectionSet, selections: kept } }] : [];
  });
}

function keys(selections) {
  return selections.flatMap((chosen) => (
    chosen.kind === Kind.FIELD ? [(chosen.alias ?? chosen.name).value] : keys(chosen.selectionSet.selections)
  ));
}

/** `{about, data, keys}`: the two documents, `data` null where nothing but the schema is asked; null: nothing of it is. */
export function divided(document, operationName) {
  const operation = getOperationAST(document, operationName);
  if (operation?.operation !== OperationTypeNode.QUERY) return null;
  const fragments = new Map();
  for (const part of document.definitions) {
    if (part.kind === Kind.FRAGMENT_DEFINITION) fragments.set(part.name.value, part);
  }
  const root = flat(operation.selectionSet, fragments);
  const about = only(root, (name) => ABOUT.has(name));
  if (!about.length) return null;
  const data = only(root, (name) => !ABOUT.has(name));
  const of = (selections) => ({
    ...document,
    definitions: document.definitions.map((part) => (
      part === operation ? { ...part, selectionSet: { ...part.selectionSet, selections } } : part
    )),
  });
  return { about: of(about), data: data.length ? of(data) : null, keys: keys(root) };
}

function joined(about, data, order) {
  const errors = [...(data.errors ?? []), ...(about.errors ?? [])];
  if (!data.data) return { ...data, ...(errors.length && { errors }) };
  const both = { ...data.data, ...about.data };
  const ordered = Object.fromEntries(order.filter((key) => key in both).map((key) => [key, both[key]]));
  return { ...data, data: ordered, ...(errors.length && { errors }) };
}

export function introspectionPlugin() {
  return {
    onExecute({ executeFn, setExecuteFn, args }) {
      const parts = divided(args.document, args.operationName);
      if (!parts) return;
      setExecuteFn(async (given) => {
        const about = await execute({ ...given, document: parts.about });
        if (!parts.data) return about;
        const data = await executeFn({ ...given, document: parts.data });
        if (data?.[Symbol.asyncIterator]) throw new GraphQLError('A query answers once.');
        return joined(about, data, parts.keys);
      });
    },
  };
}
