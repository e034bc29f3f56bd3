"""A chunker: one chunk a paragraph. Change `paragraphs`; the rest is what every chunker needs."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import chunker, info
from wit_world.imports import config, types


def paragraphs(text: str) -> list[tuple[int, int]]:
    """Byte ranges of what stands between blank lines: in order, none blank, all of the text that is not blank."""
    found: list[tuple[int, int]] = []
    start, is_open = 0, False
    for line in text.split("\n"):
        end = start + len(line.encode())
        blank = not line.strip()
        if not blank and is_open:
            found[-1] = (found[-1][0], end)
        elif not blank:
            found.append((start, end))
        is_open = not blank
        start = end + 1  # the line end is one byte
    return found


class Info(exports.Info):
    def describe(self) -> info.Info:
        return info.Info(id="PLUGIN_ID", version="0.1.0", description="PLUGIN_DESCRIPTION")


class Chunker(exports.Chunker):
    def split(self, document: chunker.Document) -> list[chunker.Chunk]:
        given = config.settings()
        if given.strip() != "{}":
            message = f"this chunker has no settings; it was given {given}"
            raise Err(types.Error(types.ErrorCode.INVALID_INPUT, message, False))
        return [chunker.Chunk(types.Span(start, end), None, None) for start, end in paragraphs(document.text)]
