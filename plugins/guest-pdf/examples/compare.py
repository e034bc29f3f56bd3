"""How near is our text of PDFs to another reading of them?

    compare.py order OURS.txt REFERENCE.html…   share of the reference's letters that ours has in the same order
    compare.py recall PDF_TEXT_PROGRAM FILE.pdf…  share of the letters of poppler's `pdftotext` that ours has, by
                                                  4-grams and one by one, and the time that both take

Letters are Han characters, kana, other letters and digits after compatibility normalisation; white space, punctuation
and table marks do not count.
"""

import collections
import html.parser
import subprocess
import sys
import time
import unicodedata


def letters(text):
    """The characters that count, in order."""
    return "".join(c for c in unicodedata.normalize("NFKC", text) if c.isalnum())


def common(a, b):
    """Length of the longest common subsequence, by bits of whole numbers (Hyyrö 2004)."""
    masks = collections.defaultdict(int)
    for at, c in enumerate(a):
        masks[c] |= 1 << at
    ones = (1 << len(a)) - 1
    state = ones
    for c in b:
        both = state & masks[c]
        state = ((state + both) | (state - both)) & ones
    return len(a) - bin(state).count("1")


class Page(html.parser.HTMLParser):
    """The text of a DocBook page without what leads to other pages."""

    def __init__(self):
        super().__init__()
        self.text, self.skip, self.open = [], 0, []

    def handle_starttag(self, tag, attributes):
        if tag in ("br", "img", "hr", "meta", "link", "col", "input"):
            return
        kind = dict(attributes).get("class") or ""
        skip = tag in ("script", "style", "title") or kind in ("navheader", "navfooter", "toc")
        # Captions stand elsewhere in print, and references name no titles there.
        self.open.append(skip or kind == "xref" or (tag, kind) == ("p", "title"))
        self.skip += self.open[-1]

    def handle_endtag(self, tag):
        if tag not in ("br", "img", "hr", "meta", "link", "col", "input") and self.open:
            self.skip -= self.open.pop()

    def handle_data(self, data):
        if not self.skip:
            self.text.append(data)


def order(ours, references):
    wanted = []
    for path in references:
        page = Page()
        page.feed(open(path, encoding="utf-8").read())
        wanted.append("".join(page.text))
    wanted, found = letters("".join(wanted)), letters(open(ours, encoding="utf-8").read())
    length = common(wanted, found)
    print(f"{length / len(wanted):.4f} of {len(wanted)} letters are found in order; ours has {len(found)}")


def grams(text):
    return collections.Counter(text[at : at + 4] for at in range(len(text) - 3))


def share(wanted, found):
    total = sum(wanted.values())
    return sum((wanted & found).values()) / total if total else 1.0


def recall(program, paths):
    rows = []
    for path in paths:
        started = time.time()
        theirs = subprocess.run(["pdftotext", path, "-"], capture_output=True, timeout=300)
        middle = time.time()
        # Running titles stay: poppler keeps them too.
        ours = subprocess.run([program, "--keep", path], capture_output=True, timeout=300)
        ended = time.time()
        wanted = letters(theirs.stdout.decode("utf-8", "replace"))
        found = letters(ours.stdout.decode("utf-8", "replace"))
        if len(wanted) < 200:
            print(f"skipped, no text for poppler: {path}")
            continue
        one = share(collections.Counter(wanted), collections.Counter(found))
        four = share(grams(wanted), grams(found))
        rows.append((one, four, middle - started, ended - middle))
        print(f"{one:.4f} {four:.4f} {len(wanted):8} {middle - started:6.2f} s {ended - middle:6.2f} s {path}")
    count = len(rows) or 1
    means = [sum(row[at] for row in rows) / count for at in range(2)]
    times = [sum(row[at] for row in rows) for at in (2, 3)]
    print(f"{len(rows)} files: letters {means[0]:.4f}, 4-grams {means[1]:.4f}; poppler {times[0]:.1f} s, ours {times[1]:.1f} s")


if __name__ == "__main__":
    if sys.argv[1] == "order":
        order(sys.argv[2], sys.argv[3:])
    else:
        recall(sys.argv[2], sys.argv[3:])
