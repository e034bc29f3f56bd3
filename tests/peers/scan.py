"""A page of Chinese as a scanner sees it, and how much of it a program recognises.

    scan.py make TEXT_FILE OUT_FOLDER      page.png and page.pdf (a picture only), 300 dpi, WenQuanYi Micro Hei, and page.txt
    scan.py compare page.txt FOUND.txt     similarity of characters in order, white space left out

Needs Pillow and the Debian package fonts-wqy-microhei.
"""

import pathlib
import sys

from PIL import Image, ImageDraw, ImageFont

FONT = "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc"
# A4 at 300 dpi, in pixels: 12-point letters, 48 of them a line.
WIDTH, HEIGHT, MARGIN, SIZE, LEADING = 2480, 3508, 236, 50, 84
LINES = (HEIGHT - 2 * MARGIN) // LEADING


def make(source, folder):
    text = "".join(pathlib.Path(source).read_text("utf-8").split())
    font = ImageFont.truetype(FONT, SIZE)
    page = Image.new("L", (WIDTH, HEIGHT), 255)
    draw = ImageDraw.Draw(page)
    lines, at = [], 0
    for number in range(LINES):
        line = ""
        while at < len(text) and draw.textlength(line + text[at], font) <= WIDTH - 2 * MARGIN:
            line, at = line + text[at], at + 1
        draw.text((MARGIN, MARGIN + number * LEADING), line, font=font, fill=0)
        lines.append(line)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    page.save(folder / "page.png", dpi=(300, 300))
    page.save(folder / "page.pdf", resolution=300)
    (folder / "page.txt").write_text("\n".join(lines), "utf-8")


def similarity(wanted, found):
    """Twice the longest common subsequence through both lengths."""
    a, b = ("".join(text.split()) for text in (wanted, found))
    row = [0] * (len(b) + 1)
    for x in a:
        before = 0
        for at, y in enumerate(b):
            above = row[at + 1]
            row[at + 1] = before + 1 if x == y else max(above, row[at])
            before = above
    return 2 * row[-1] / ((len(a) + len(b)) or 1)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(*sys.argv[2:])
    else:
        wanted, found = (pathlib.Path(path).read_text("utf-8") for path in sys.argv[2:])
        print(f"{similarity(wanted, found):.4f}")
