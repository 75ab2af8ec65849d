#!/bin/sh
# webdataset and datasets leave out, without a word, every sample that tar has stored as a hard link. GNU tar
# stores a file that has two names once, and the second name as such a link, so shards made of a folder whose
# equal files were linked to save room lose samples. Python's tarfile reads the link's content in one call.
#
# Packs three files, two of which are one, and asks each for what it finds. Ends with 0 as long as all of them
# find two, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet webdataset==1.0.2 datasets==5.2.0
mkdir in
printf one > in/0001.txt
ln in/0001.txt in/0002.txt
printf three > in/0003.txt
tar -cf set.tar -C in 0001.txt 0002.txt 0003.txt
tar -tvf set.tar
cat > show.py <<'PYTHON'
import importlib.metadata
import sys
import tarfile

import datasets
import webdataset

for name in ("webdataset", "datasets"):
    print(name, importlib.metadata.version(name))
with tarfile.open("set.tar") as archive:
    whole = {one.name[:4]: archive.extractfile(one).read() for one in archive}
streamed = datasets.load_dataset("webdataset", data_files="set.tar", split="train", streaming=True)
found = {
    "webdataset.WebDataset": [one["__key__"] for one in webdataset.WebDataset("set.tar", shardshuffle=False)],
    "datasets, iter_archive": [name[:4] for name, _ in datasets.DownloadManager().iter_archive("set.tar")],
    "datasets, builder webdataset": [one["__key__"] for one in streamed],
}
print("tarfile:", whole)
for name, keys in found.items():
    print(f"{name}:", keys)
as_known = len(whole) == 3 and all(keys == ["0001", "0003"] for keys in found.values())
print("as known" if as_known else "this has changed")
sys.exit(not as_known)
PYTHON
venv/bin/python show.py
