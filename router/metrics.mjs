// Prometheus text format, version 0.0.4. The names are few and their labels closed, so a Map is all it takes.
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

const labelled = (labels) => Object.entries(labels).map(([name, value]) => `${name}="${value}"`).join(',');
const braces = (text) => (text ? `{${text}}` : '');

export class Metrics {
  #counters = new Map();
  #histograms = new Map();
  #gauges = new Map();

  count(name, labels = {}, by = 1) {
    const series = this.#series(this.#counters, name);
    const key = labelled(labels);
    series.set(key, (series.get(key) ?? 0) + by);
  }

  observe(name, seconds, labels = {}) {
    const series = this.#series(this.#histograms, name);
    const key = labelled(labels);
    const found = series.get(key) ?? { buckets: SECONDS.map(() => 0), sum: 0, count: 0 };
    SECONDS.forEach((bound, at) => { if (seconds <= bound) found.buckets[at] += 1; });
    found.sum += seconds;
    found.count += 1;
    series.set(key, found);
  }

  /** `read` is called whenever the metrics are asked for. */
  gauge(name, read) {
    this.#gauges.set(name, read);
  }

  text() {
    const lines = [];
    for (const [name, series] of this.#counters) {
      lines.push(`# TYPE ${name} counter`);
      for (const [labels, value] of series) lines.push(`${name}${braces(labels)} ${value}`);
    }
    for (const [name, series] of this.#histograms) {
      lines.push(`# TYPE ${name} histogram`);
      for (const [labels, found] of series) {
        const comma = labels ? `${labels},` : '';
        SECONDS.forEach((bound, at) => lines.push(`${name}_bucket{${comma}le="${bound}"} ${found.buckets[at]}`));
        lines.push(`${name}_bucket{${comma}le="+Inf"} ${found.count}`);
        lines.push(`${name}_sum${braces(labels)} ${found.sum}`, `${name}_count${braces(labels)} ${found.count}`);
      }
    }
    for (const [name, read] of this.#gauges) lines.push(`# TYPE ${name} gauge`, `${name} ${read()}`);
    return `${lines.join('\n')}\n`;
  }

  #series(kind, name) {
    if (!kind.has(name)) kind.set(name, new Map());
    return kind.get(name);
  }
}

export function metricsPlugin(metrics) {
  return {
    onParams({ request, params }) {
      const labels = { method: request?.method ?? 'none', named: Boolean(params?.operationName) };
      metrics.count('linkflow_gateway_requests_total', labels);
    },
    onSubgraphExecute({ subgraphName }) {
      const start = performance.now();
      return ({ result }) => {
        const outcome = result?.errors?.length ? 'error' : 'ok';
        const seconds = (performance.now() - start) / 1000;
        metrics.observe('linkflow_gateway_subgraph_seconds', seconds, { subgraph: subgraphName, outcome });
      };
    },
  };
}
