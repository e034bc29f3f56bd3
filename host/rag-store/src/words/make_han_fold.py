"""Writes han_fold.txt from Unihan_Variants.txt: python3 make_han_fold.py Unihan_Variants.txt > han_fold.txt

Each traditional character is paired with its first kSimplifiedVariant that differs from it; chains are followed to
their end, so that folding twice changes nothing. Only the Basic Multilingual Plane. VARIANTS adds common written
forms of traditional characters that the file lists under their other form only.
"""
import sys

VARIANTS = "裏里爲为衆众説说啟启綫线敍叙鷄鸡麪面羣群峯峰牀床脣唇"
pairs = dict(zip(VARIANTS[::2], VARIANTS[1::2]))
for line in open(sys.argv[1], encoding="utf-8"):
    if "\tkSimplifiedVariant\t" not in line:
        continue
    code, _, targets = line.rstrip("\n").split("\t")
    source = chr(int(code[2:], 16))
    for target in (chr(int(item.split("<")[0][2:], 16)) for item in targets.split()):
        if target != source and max(source, target) < "\U00010000":
            pairs[source] = target
            break

def end(char):
    seen = set()
    while char in pairs and char not in seen:
        seen.add(char)
        char = pairs[char]
    return char

resolved = sorted((source, end(target)) for source, target in pairs.items() if end(target) != source)
print("# Traditional to Simplified, pairs of characters. Derived by make_han_fold.py from Unihan_Variants.txt 15.0.0,")
print("# (c) 1991-2022 Unicode, Inc.; modified by selection; terms in LICENSE-UNICODE beside this file.")
for start in range(0, len(resolved), 20):
    print("".join(source + target for source, target in resolved[start : start + 20]))
