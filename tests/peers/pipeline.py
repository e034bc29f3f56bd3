"""Documents into Chroma as a usual pipeline in Python does it: PyMuPDF, openpyxl, chunks, onnxruntime.

    pipeline.py MODEL_FOLDER FILE_OR_FOLDER…        with `--parse-only` before them: no vectors

Prints one line of JSON: seconds of parsing and chunking, seconds of all of it, chunks, and the largest resident set in
MiB. Opening the model and the database is not counted. MODEL_FOLDER is made by e5_onnx.py.
"""

import json
import pathlib
import re
import resource
import sys
import tempfile
import time

import fitz
import openpyxl

# Characters of a chunk, and what a new one repeats: about the 256 tokens of the other side.
SIZE, OVERLAP = 350, 0
BATCH = 32
SENTENCE = re.compile(r"(?<=[。！？；.!?;\n])")


def pdf(path):
    with fitz.open(path) as document:
        for page in document:
            yield page.get_text()


def sheet(path):
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    for page in book:
        rows = page.iter_rows(values_only=True)
        header = [str(cell or "") for cell in next(rows, ())]
        for row in rows:
            cells = (f"{name}：{value}" for name, value in zip(header, row) if value is not None)
            yield "；".join(cells) + "\n"


def text(path):
    yield path.read_text("utf-8")


READERS = {".pdf": pdf, ".xlsx": sheet, ".txt": text, ".md": text}


def chunks(pieces):
    """Whole sentences up to SIZE characters, as splitters by separators make them."""
    held = ""
    for piece in pieces:
        for sentence in SENTENCE.split(piece):
            while len(sentence) > SIZE:
                yield sentence[:SIZE]
                sentence = sentence[SIZE:]
            if len(held) + len(sentence) > SIZE:
                if held.strip():
                    yield held
                held = held[len(held) - OVERLAP :] if OVERLAP else ""
            held += sentence
    if held.strip():
        yield held


def files(arguments):
    for argument in map(pathlib.Path, arguments):
        yield from sorted(argument.iterdir()) if argument.is_dir() else [argument]


def embed(model_folder):
    import chromadb
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{model_folder}/tokenizer.json")
    session = onnxruntime.InferenceSession(f"{model_folder}/model.onnx", providers=["CPUExecutionProvider"])
    client = chromadb.PersistentClient(tempfile.mkdtemp(prefix="peer-chroma-"))
    collection = client.create_collection("bench", metadata={"hnsw:space": "cosine"})

    def add(name, texts):
        # Texts of one length together: nothing is padded in vain.
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        for start in range(0, len(order), BATCH):
            batch = [texts[at] for at in order[start : start + BATCH]]
            encoded = tokenizer.encode_batch(["passage: " + one for one in batch])
            feed = {"ids": [one.ids for one in encoded], "mask": [one.attention_mask for one in encoded]}
            (vectors,) = session.run(None, feed)
            ids = [f"{name}-{at}" for at in order[start : start + BATCH]]
            collection.add(ids=ids, embeddings=vectors, documents=batch, metadatas=[{"name": name}] * len(batch))

    return add


def main(arguments):
    parse_only = arguments[0] == "--parse-only"
    model_folder, *paths = arguments[parse_only:]
    add = None if parse_only else embed(model_folder)
    parsed = count = 0
    started = time.perf_counter()
    for path in files(paths):
        begun = time.perf_counter()
        found = list(chunks(READERS[path.suffix](path)))
        parsed += time.perf_counter() - begun
        count += len(found)
        if add:
            add(path.name, found)
    whole = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"parse_s": round(parsed, 3), "whole_s": round(whole, 3), "chunks": count, "peak_mib": round(peak)}))


if __name__ == "__main__":
    main(sys.argv[1:])
