"""How near is our text of PDFs to another reading of them?

    compare.py order OURS.txt REFERENCE.html…   share of the reference's letters that ours has in the same order
    compare.py recall PDF_TEXT_PROGRAM FILE.pdf…  share of the letters of poppler's `pdftotext` that ours has, one by
                                                  one and by 4-grams, share of ours that it has, the time that both
                                                  take and the memory of ours; a line a file, the worst first

Letters are Han characters, kana, other letters and digits after compatibility normalisation; white space, punctuation
and table marks do not count.
"""

import collections
import html.parser
import re
import subprocess
import sys
import time
import unicodedata

# Seconds that a program may read one file.
LIMIT = 60


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


def measured(command):
    """What a program printed and complained of, its exit (None: stopped after LIMIT seconds) and seconds."""
    started = time.time()
    try:
        done = subprocess.run(command, capture_output=True, timeout=LIMIT)
        out, err, code = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as late:
        out, err, code = late.stdout or b"", late.stderr or b"", None
    seconds = time.time() - started
    return out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), code, seconds


def recall(program, paths):
    rows, faults, few = [], [], 0
    for path in paths:
        theirs, _, _, before = measured(["pdftotext", path, "-"])
        # Running titles stay: poppler keeps them too.
        ours, complaint, code, after = measured([program, "--keep", path])
        if code != 0:
            faults.append(f"{'stopped' if code is None else code}: {path} {complaint.strip()[-200:]}")
        peak = re.search(r" s, (\d+) MiB at most;", complaint)
        memory = int(peak.group(1)) if peak else 0
        wanted, found = letters(theirs), letters(ours)
        if len(wanted) < 200:
            few += 1
            continue
        letter, back = collections.Counter(wanted), collections.Counter(found)
        shares = share(letter, back), share(grams(wanted), grams(found)), share(back, letter)
        rows.append((*shares, before, after, memory, len(wanted), path))
    for row in sorted(rows):
        print("{:.4f} {:.4f} {:.4f} {:6.2f} s {:6.2f} s {:4.0f} MiB {:8} {}".format(*row))
    for fault in faults:
        print("fault", fault)
    count = len(rows) or 1
    means = [sum(row[at] for row in rows) / count for at in range(5)]
    print(
        f"{len(rows)} files: letters {means[0]:.4f}, 4-grams {means[1]:.4f}, of ours {means[2]:.4f}; poppler {means[3]:.2f} s "
        f"a file, ours {means[4]:.2f} s, slowest {max((row[4] for row in rows), default=0):.1f} s, "
        f"at most {max((row[5] for row in rows), default=0):.0f} MiB; {few} without text for poppler, {len(faults)} faults"
    )


if __name__ == "__main__":
    if sys.argv[1] == "order":
        order(sys.argv[2], sys.argv[3:])
    else:
        recall(sys.argv[2], sys.argv[3:])
