"""Documents of every format, and how fast a pipeline in Python reads and chunks them.

    formats.py make TEXT_FILE FOLDER [COUNT]    COUNT documents of each format (40), each of some 24 000 characters
    formats.py read FOLDER…                     documents and megabytes (of files) a second, by format

`rwkv-rag bench parse --paths FOLDER` reads the same. Each reader is what people take for its format; chunks are made as
in pipeline.py.
"""

import csv
import email
import email.policy
import io
import json
import pathlib
import sys
import time
import warnings
from email.message import EmailMessage

CHARACTERS, LINE, PARAGRAPH = 24_000, 60, 600


def paragraphs(text, at):
    """A document's paragraphs, a different part of the text for each `at`."""
    text = "".join(text.split("\n"))
    start = at * 7_919 % max(1, len(text) - CHARACTERS)
    part = text[start : start + CHARACTERS]
    return [part[first : first + PARAGRAPH] for first in range(0, len(part), PARAGRAPH)]


def rows(pieces):
    """Six columns: text, numbers and a date."""
    yield ["编号", "名称", "说明", "数量", "价格", "日期"]
    for number, piece in enumerate(pieces):
        for at in range(0, len(piece), LINE):
            cell = piece[at : at + LINE]
            yield [number * 10 + at // LINE, cell[:8], cell, at * 3, at * 1.25 + 0.1, f"2026-{number % 12 + 1:02}-17"]


def html(pieces):
    body = "".join(f"<h2>第{n}节</h2><p>{escape(p)}</p>" for n, p in enumerate(pieces))
    menu = "".join(f"<li><a href='/{n}'>页{n}</a></li>" for n in range(30))
    return f"<!doctype html><html><head><meta charset=utf-8><title>手册</title></head><body><nav><ul>{menu}</ul></nav><main>{body}</main></body></html>"


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def make_pdf(pieces):
    import fitz

    document = fitz.open()
    lines = [piece[at : at + 40] for piece in pieces for at in range(0, len(piece), 40)]
    font = fitz.Font("cjk")
    for first in range(0, len(lines), 45):
        page = document.new_page()
        writer = fitz.TextWriter(page.rect)
        for row, line in enumerate(lines[first : first + 45]):
            writer.append((50, 60 + row * 16), line, font=font, fontsize=11)
        writer.write_text(page)
    document.subset_fonts()
    return document.tobytes(garbage=3, deflate=True)


def make_docx(pieces):
    import docx

    document = docx.Document()
    for number, piece in enumerate(pieces):
        document.add_heading(f"第{number}节", 2)
        document.add_paragraph(printable(piece))
    return saved(document)


def make_pptx(pieces):
    import pptx

    show = pptx.Presentation()
    for number, piece in enumerate(pieces):
        slide = show.slides.add_slide(show.slide_layouts[1])
        slide.shapes.title.text = f"第{number}页"
        slide.placeholders[1].text = printable(piece)
    return saved(show)


def make_xlsx(pieces):
    import openpyxl

    book = openpyxl.Workbook()
    for row in rows(pieces):
        book.active.append([printable(cell) if isinstance(cell, str) else cell for cell in row])
    return saved(book)


def make_csv(pieces):
    out = io.StringIO()
    csv.writer(out).writerows(rows(pieces))
    return out.getvalue().encode()


def make_epub(pieces):
    from ebooklib import epub

    book = epub.EpubBook()
    book.set_title("手册")
    book.set_language("zh")
    chapters = []
    for number in range(0, len(pieces), 5):
        chapter = epub.EpubHtml(title=f"第{number}章", file_name=f"c{number}.xhtml", lang="zh")
        chapter.content = f"<h1>第{number}章</h1>" + "".join(f"<p>{escape(printable(p))}</p>" for p in pieces[number : number + 5])
        book.add_item(chapter)
        chapters.append(chapter)
    book.toc, book.spine = chapters, ["nav", *chapters]
    book.add_item(epub.EpubNcx())
    book.add_item(epub.EpubNav())
    out = io.BytesIO()
    epub.write_epub(out, book)
    return out.getvalue()


def make_eml(pieces):
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = "手册", "a@example.org", "b@example.org"
    mail.set_content("\n\n".join(pieces))
    mail.add_alternative(html(pieces), subtype="html")
    return mail.as_bytes()


def make_code(pieces):
    body = (f'/// {escape(p[:LINE])}\npub fn part_{n}(value: u64) -> u64 {{\n    let words = "{p[:40]}";\n    value + words.len() as u64\n}}\n' for n, p in enumerate(pieces))
    return "\n".join(body).encode()


def saved(thing):
    out = io.BytesIO()
    thing.save(out)
    return out.getvalue()


def printable(text):
    return "".join(c for c in text if c.isprintable())


MAKERS = {
    "txt": lambda pieces: "\n\n".join(pieces).encode(),
    "md": lambda pieces: "\n\n".join(f"## 第{n}节\n\n{p}" for n, p in enumerate(pieces)).encode(),
    "html": lambda pieces: html(pieces).encode(),
    "pdf": make_pdf,
    "docx": make_docx,
    "pptx": make_pptx,
    "xlsx": make_xlsx,
    "csv": make_csv,
    "epub": make_epub,
    "eml": make_eml,
    "json": lambda pieces: json.dumps([{"编号": n, "内容": p} for n, p in enumerate(pieces)], ensure_ascii=False).encode(),
    "rs": make_code,
}


def make(source, folder, count):
    text = pathlib.Path(source).read_text("utf-8")
    for format, maker in MAKERS.items():
        for at in range(count):
            path = pathlib.Path(folder) / format / f"{at:03}.{format}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(maker(paragraphs(text, at)))


def sentences(row, header):
    return "；".join(f"{name}：{value}" for name, value in zip(header, row) if value not in (None, "")) + "\n"


def read_docx(path):
    import docx

    return (paragraph.text + "\n" for paragraph in docx.Document(path).paragraphs)


def read_pptx(path):
    import pptx

    slides = pptx.Presentation(path).slides
    return (shape.text_frame.text + "\n" for slide in slides for shape in slide.shapes if shape.has_text_frame)


def soup(markup):
    from bs4 import BeautifulSoup

    warnings.simplefilter("ignore")
    found = BeautifulSoup(markup, "lxml")
    for menu in found(["nav", "script", "style"]):
        menu.decompose()
    return [found.get_text("\n")]


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        header = next(lines)
        for row in lines:
            yield sentences(row, header)


def read_epub(path):
    import ebooklib
    from ebooklib import epub

    for item in epub.read_epub(path).get_items_of_type(ebooklib.ITEM_DOCUMENT):
        yield from soup(item.get_content())


def read_eml(path):
    mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    return [mail.get_body(("plain", "html")).get_content()]


def read_md(path):
    from markdown_it import MarkdownIt

    return (token.content + "\n" for token in MarkdownIt().parse(path.read_text("utf-8")) if token.content)


def read_json(path):
    return (sentences(row.values(), row.keys()) for row in json.loads(path.read_bytes()))


def readers():
    from pipeline import pdf, sheet, text

    return {
        "txt": text, "md": read_md, "html": lambda path: soup(path.read_bytes()), "pdf": pdf, "docx": read_docx,
        "pptx": read_pptx, "xlsx": sheet, "csv": read_csv, "epub": read_epub, "eml": read_eml, "json": read_json, "rs": text,
    }  # fmt: skip


def read(folders):
    from pipeline import chunks, files

    known = readers()
    totals = {}
    for path in (file for folder in folders for sub in sorted(pathlib.Path(folder).iterdir()) for file in files([sub])):
        format = path.suffix[1:]
        if format not in totals:
            # What is imported for the first one is not counted.
            list(known[format](path))
        begun = time.perf_counter()
        count = sum(1 for _ in chunks(known[format](path)))
        took = time.perf_counter() - begun
        documents, size, seconds, pieces = totals.get(format, (0, 0, 0.0, 0))
        totals[format] = (documents + 1, size + path.stat().st_size, seconds + took, pieces + count)
    for format, (documents, size, seconds, pieces) in totals.items():
        print(f"{format:5} {documents / seconds:8.1f} documents/s {size / seconds / 1e6:8.2f} MB/s {pieces} chunks")


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 40)
    else:
        read(sys.argv[2:])
