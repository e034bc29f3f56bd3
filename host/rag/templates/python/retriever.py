"""A retriever: the nearest chunks by vector, best first. Change `best_first`, or ask `search.lexical` too."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import info, retriever
from wit_world.imports import config, embed, search, types


def best_first(hits: list[types.Hit], k: int) -> list[types.Hit]:
    once = {hit.chunk: hit for hit in sorted(hits, key=lambda hit: hit.score)}
    return sorted(once.values(), key=lambda hit: (-hit.score, hit.chunk))[:k]


def invalid(message: str) -> Err:
    return Err(types.Error(types.ErrorCode.INVALID_INPUT, message, False))


class Info(exports.Info):
    def describe(self) -> info.Info:
        return info.Info(id="PLUGIN_ID", version="0.1.0", description="PLUGIN_DESCRIPTION")


class Retriever(exports.Retriever):
    def retrieve(self, request: retriever.Request) -> retriever.Outcome:
        given = config.settings()
        if given.strip() != "{}":
            raise invalid(f"this retriever has no settings; it was given {given}")
        if not request.question.strip():
            raise invalid("the question is empty")
        query = embed.embed([request.question], embed.Purpose.QUERY)
        found = best_first(search.dense(query, request.k, request.filter), request.k)
        hits = [
            retriever.Ranked(hit.chunk, hit.score, [retriever.Evidence("dense", rank, hit.score)])
            for rank, hit in enumerate(found, 1)
        ]
        step = retriever.Step("dense", f"{len(hits)} nearest of {request.k} wanted", 0)
        return retriever.Outcome(hits, [step], None)
