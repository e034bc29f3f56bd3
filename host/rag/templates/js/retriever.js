// A retriever: the nearest chunks by vector, best first. Change `bestFirst`, or ask `lexical` too.
import { settings } from 'ragkit:host/config@0.1.0';
import { embed } from 'ragkit:host/embed@0.1.0';
import { dense } from 'ragkit:host/search@0.1.0';

function bestFirst(hits, k) {
  const ordered = [...hits].sort((a, b) => b.score - a.score || (a.chunk < b.chunk ? -1 : 1));
  return ordered.filter((hit, at) => ordered.findIndex((other) => other.chunk === hit.chunk) === at).slice(0, k);
}

export const info = {
  describe() {
    return { id: 'PLUGIN_ID', version: '0.1.0', description: 'PLUGIN_DESCRIPTION' };
  },
};

function invalid(message) {
  return { code: 'invalid-input', message, retryable: false };
}

export const retriever = {
  retrieve({ question, k, filter }) {
    const given = settings();
    if (given.trim() !== '{}') throw invalid(`this retriever has no settings; it was given ${given}`);
    if (question.trim() === '') throw invalid('the question is empty');
    let found;
    try {
      found = dense(embed([question], 'query'), k, filter);
    } catch (error) {
      // What the host says is handed on as it is.
      throw error.payload ?? error;
    }
    const hits = bestFirst(found, k).map(({ chunk, score }, at) => ({
      chunk,
      score,
      evidence: [{ arm: 'dense', rank: at + 1, score }],
    }));
    const detail = `${hits.length} nearest of ${k} wanted`;
    return { hits, steps: [{ name: 'dense', detail, millis: 0 }], rewritten: undefined };
  },
};
