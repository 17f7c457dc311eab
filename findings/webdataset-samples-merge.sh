#!/usr/bin/env bash
# The writer of webdataset takes a key with a dot in its last part, and its reader ends every key at the first
# dot: samples that were written apart come back as one, without a word.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check webdataset==1.0.2
venv/bin/python - <<'PYTHON'
import importlib.metadata

import webdataset

print("webdataset", importlib.metadata.version("webdataset"))
keys = ["scan.1", "scan.2", "scan.3", "St. Bernard", "plain"]
with webdataset.TarWriter("shard.tar") as writer:
    for number, key in enumerate(keys):
        writer.write({"__key__": key, "txt": f"text {number}", "cls": number})
read = webdataset.WebDataset("shard.tar", shardshuffle=False)
seen = {one["__key__"]: sorted(name for name in one if name[0] != "_") for one in read}
print("given:   five samples with the fields txt and cls, under", keys)
print("guessed: five samples with these keys and fields, or an error of the writer")
print("seen:   ", len(seen), "samples")
for key, fields in seen.items():
    print("        ", repr(key), fields)
merged = ["1.cls", "1.txt", "2.cls", "2.txt", "3.cls", "3.txt"]
assert seen == {"scan": merged, "St": [" bernard.cls", " bernard.txt"], "plain": ["cls", "txt"]}, "changed"
PYTHON
