"""Shards from folders and from a hub: which files, fetched when, kept how long, and what if it is away."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nanoocr.data import fetch, shard_cache
from nanoocr.data import shards as shards_module
from nanoocr.data.fetch import (
    HubSet,
    HuggingFace,
    Listing,
    ShardSource,
    hub_shards,
    mirror_shards,
    select_files,
)
from nanoocr.data.shard_cache import ShardCache
from nanoocr.data.source import EpochOrder
from nanoocr.errors import UsageError
from nanoocr.tasks.choose import make_task
from nanoocr.tasks.plain_text import PlainText

REPO = "some/set"


class FolderHub:
    """A folder behind the hub's interface; `down` makes it unreachable, `calls` tells what was asked."""

    def __init__(self, root):
        self.root, self.down, self.calls = root, 0, []

    def _ask(self, *call):
        if self.down:
            self.down -= 1
            raise ConnectionError("no route to host.\nmore")
        self.calls.append(call)

    def list_files(self, repo, revision):
        self._ask("list", repo, revision)
        files = {
            path.relative_to(self.root).as_posix(): path for path in self.root.rglob("*") if path.is_file()
        }
        return Listing("c0ffee", {name: path.stat().st_size for name, path in files.items()})

    def open(self, repo, commit, path):
        self._ask("open", path)
        return open(self.root / path, "rb")

    def download(self, repo, commit, path, folder):
        self._ask("download", path)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        return shutil.copy(self.root / path, folder / path)

    def downloads(self):
        return [call[1] for call in self.calls if call[0] == "download"]


def write(path, texts, rows_per_group=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table({"text": texts, "number": list(range(len(texts)))}), path, row_group_size=rows_per_group
    )


@pytest.fixture
def hub(tmp_path):
    """Three shards of three rows in `main`, one of `other`, one test split."""
    root = tmp_path / "hub"
    for i in range(3):
        write(root / f"main/train-0000{i}-of-00003.parquet", [f"{i}.{j}" for j in range(3)])
    write(root / "main/test-00000-of-00001.parquet", ["held out"])
    write(root / "other/train-00000-of-00001.parquet", ["other"])
    (root / "README.md").write_text("about")
    return FolderHub(root)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(fetch, "WAITS", (0.0, 0.0))


def open_set(hub, tmp_path, max_bytes=10**9, columns=("text",), **files):
    return hub_shards(
        HubSet(REPO, **{"subset": "main", **files}), tmp_path / "cache", max_bytes, columns, hub
    )


# ---------------------------------------------------------------------------------------------------------
# which files


@pytest.mark.parametrize(
    ("split", "paths", "chosen"),
    [
        ("train", ["data/train-00000-of-00002.parquet", "data/test-0.parquet"], [0]),
        ("train", ["default/train/0000.parquet", "default/test/0000.parquet"], [0]),
        ("train-s2pdf", ["train-s2pdf.parquet", "eval-s2pdf.parquet"], [0]),
        ("train", ["00_documents_train.parquet", "00_documents_eval.parquet"], [0]),
        ("train", ["shard_00001.parquet", "shard_00000.parquet"], [1, 0]),
        ("", ["b/train-0.parquet", "a/test-0.parquet", "a.txt"], [1, 0]),
    ],
)
def test_splits(split, paths, chosen):
    assert select_files(paths, HubSet(REPO, split=split), "here") == [paths[i] for i in chosen]


def test_what_is_not_there_is_told_with_what_is():
    paths = ["chartqa/train-0.parquet", "docvqa/train-0.parquet"]
    with pytest.raises(UsageError, match=r"no subset 'chartqaa'; did you mean chartqa\?"):
        select_files(paths, HubSet(REPO, "chartqaa"), "here")
    with pytest.raises(UsageError, match="no subset 'xyz'; known are chartqa, docvqa"):
        select_files(paths, HubSet(REPO, "xyz"), "here")
    with pytest.raises(UsageError, match="no split 'test' among 1 files such as train-0"):
        select_files(paths, HubSet(REPO, "chartqa", split="test"), "here")
    with pytest.raises(UsageError, match=r"here: holds no \.parquet"):
        select_files(["README.md"], HubSet(REPO), "here")


def test_a_folder_may_be_the_repository_or_the_subset_or_a_file(hub):
    which = HubSet(REPO, "main")
    for place in (hub.root, hub.root / "main", hub.root / "main/train-00000-of-00003.parquet"):
        shards = mirror_shards(place, which, ["text"])
        assert shards[0] == {"text": "0.0"} and len(shards) in (3, 9)
    assert len(mirror_shards(hub.root, HubSet(REPO, "main", max_shards=2))) == 6
    outer = hub.root.parent / "main"  # called like the subset, and the repository all the same
    shutil.copytree(hub.root, outer)
    assert len(mirror_shards(outer, which)) == 9
    flat = hub.root.parent / "flat"
    shutil.copytree(hub.root / "main", flat)
    assert len(mirror_shards(flat, which)) == 9
    with pytest.raises(UsageError, match="nowhere"):
        mirror_shards(hub.root / "nowhere", which)


def test_a_source_takes_the_first_columns_that_are_there(hub):
    source = ShardSource(HubSet(REPO, "main"), path=str(hub.root))
    assert source.open(["picture"], ["text"])[0] == {"text": "0.0"}
    with pytest.raises(UsageError, match="no column 'sound'"):
        source.open(["picture"], ["sound"])


# ---------------------------------------------------------------------------------------------------------
# the hub


def test_rows_are_counted_without_a_download_and_shards_come_when_they_are_read(hub, tmp_path):
    shards = open_set(hub, tmp_path)
    assert len(shards) == 9 and shards.bounds == [0, 2, 3, 5, 6, 8, 9] and not hub.downloads()
    assert shards[4] == {"text": "1.1"} and shards[3] == {"text": "1.0"}
    assert hub.downloads() == ["main/train-00001-of-00003.parquet"]
    assert "train-00001-of-00003.parquet: row 2" in shards.name_of(5)
    assert open_set(hub, tmp_path, split="test")[0] == {"text": "held out"}
    assert len(open_set(hub, tmp_path, max_shards=1)) == 3


def test_a_fingerprint_needs_no_download_and_knows_that_shards_are_fetched(hub, tmp_path):
    task = PlainText(open_set(hub, tmp_path))
    at_hand = PlainText(mirror_shards(hub.root, HubSet(REPO, "main")))
    assert task.fingerprint() != at_hand.fingerprint()  # an epoch has another order
    (hub.root / "README.md").write_text("another commit that changes no row")
    assert PlainText(open_set(hub, tmp_path)).fingerprint() == task.fingerprint() and not hub.downloads()


def test_footers_are_read_once(hub, tmp_path):
    open_set(hub, tmp_path)
    open_set(hub, tmp_path)
    assert sum(call[0] == "open" for call in hub.calls) == 3


def test_a_budget_holds_by_dropping_what_was_used_longest_ago(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(shards_module, "HELD_BYTES", 0)  # no row group stays in memory but the last
    size = max(path.stat().st_size for path in hub.root.rglob("train*.parquet"))
    shards = open_set(hub, tmp_path, max_bytes=2 * size + size // 2)
    for row in (0, 3, 0, 6, 0, 3):  # the third shard takes the place of the second, and back
        assert shards[row] == {"text": f"{row // 3}.0"}
        held = list((tmp_path / "cache").rglob("*.parquet"))
        assert len(held) <= 2
    assert [name[15] for name in hub.downloads()] == ["0", "1", "2", "1"]


def eight_shards(tmp_path, room):
    """(hub, task) of eight shards of four row groups, of which the disk may hold `room`."""
    names = [f"main/train-{i:05d}-of-00008.parquet" for i in range(8)]
    for i, name in enumerate(names):
        write(tmp_path / "eight" / name, [f"{i}.{j}" for j in range(100)], rows_per_group=25)
    size = max((tmp_path / "eight" / name).stat().st_size for name in names)
    hub = FolderHub(tmp_path / "eight")
    return hub, PlainText(open_set(hub, tmp_path, max_bytes=room * size + size // 2))


def test_a_set_above_its_budget_is_fetched_about_once_per_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(shards_module, "HELD_BYTES", 0)
    hub, task = eight_shards(tmp_path, room=2)
    order, epochs = EpochOrder(task, (1,)), []
    for epoch in range(3):
        epochs.append([task[order[i]].answer for i in range(len(task) * epoch, len(task) * (epoch + 1))])
        assert len(hub.downloads()) <= 8 * (epoch + 1)
    assert all(sorted(epoch) == sorted(epochs[0]) and len(set(epoch)) == 800 for epoch in epochs)
    assert epochs[0] != epochs[1]
    turns = [a[0] != b[0] for a, b in pairwise(epochs[0])]
    assert sum(turns) > 8  # two shards at a time are mixed, by row groups
    again = EpochOrder(task, (1,))
    assert [again[i] for i in (1300, 17, 800)] == [order[i] for i in (1300, 17, 800)]


def test_readers_that_stand_apart_need_room_for_the_next_files(tmp_path, monkeypatch):
    """Four streams in turn, each with its stretches: some are among the next files before all have left."""
    monkeypatch.setattr(shards_module, "HELD_BYTES", 0)
    hub, task = eight_shards(tmp_path, room=4)
    order, stretch = EpochOrder(task, (1,)), 10
    for start in range(0, len(task), 4 * stretch):
        for offset in range(stretch):
            for stream in range(4):
                assert task[order[start + stream * stretch + offset]]
    assert len(hub.downloads()) == 8


def test_data_sets_with_budgets_of_their_own_leave_each_other_alone(hub, tmp_path, monkeypatch):
    size = max(path.stat().st_size for path in hub.root.rglob("*.parquet"))
    large, small = open_set(hub, tmp_path), open_set(hub, tmp_path, max_bytes=size, subset="other")
    for _ in range(2):
        assert [large[i] for i in (0, 3, 6)] and small[0] == {"text": "other"}
    assert len(hub.downloads()) == 4
    monkeypatch.setattr(shards_module, "HELD_BYTES", 0)
    free = iter([0, 0, 10**10, 10**10])  # a full disk: the oldest file goes, whoever's it is
    monkeypatch.setattr(shard_cache, "RESERVE", 0)
    monkeypatch.setattr(ShardCache, "_free", lambda self: next(free))
    assert open_set(hub, tmp_path, split="test")[0] == {"text": "held out"}
    assert len(hub.downloads()) == 5
    assert not list((tmp_path / "cache").rglob("train-00000-of-00003.parquet"))
    assert len(list((tmp_path / "cache").rglob("*.parquet"))) == 4


def test_only_what_was_fetched_is_ever_dropped(hub, tmp_path):
    own = tmp_path / "cache/mine.parquet"
    write(own, ["mine"] * 1000)
    size = max(path.stat().st_size for path in hub.root.rglob("train*.parquet"))
    shards = open_set(hub, tmp_path, max_bytes=size)
    assert shards[0] and shards[3] and shards[6] and len(hub.downloads()) == 3
    assert own.is_file() and len(list((tmp_path / "cache/hub").rglob("*.parquet"))) == 1


def test_readers_of_one_shard_fetch_it_once(hub, tmp_path):
    shards = [open_set(hub, tmp_path) for _ in range(8)]
    with ThreadPoolExecutor(8) as readers:
        assert list(readers.map(lambda one: one[0]["text"], shards)) == ["0.0"] * 8
    assert len(hub.downloads()) == 1


def test_a_shard_above_the_budget_and_a_full_disk_are_told(hub, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"main/train-0.*budget is 0\.00: raise max_gb"):
        open_set(hub, tmp_path, max_bytes=10)[0]
    open_set(hub, tmp_path)[3]
    monkeypatch.setattr(shard_cache.shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(UsageError, match=r"cache/hub: 0\.0 GB are free, and .* needs 1\.0"):
        open_set(hub, tmp_path)[0]
    assert len(hub.downloads()) == 1 and len(list((tmp_path / "cache").rglob("*.parquet"))) == 1


def test_a_short_download_is_not_kept(tmp_path):
    def download(folder):
        (folder / "a.parquet").write_bytes(b"12")
        return folder / "a.parquet"

    cache = ShardCache(tmp_path / "cache", 100)
    with pytest.raises(UsageError, match="2 bytes arrived of 3"):
        cache.get("set/a.parquet", 3, download)
    assert not list(cache.root.rglob("*.parquet"))
    assert cache.get("set/a.parquet", 2, download).read_bytes() == b"12"


def test_what_a_killed_process_left_is_cleared(tmp_path):
    cache = ShardCache(tmp_path, 100)
    (tmp_path / ".fetching").mkdir()
    (tmp_path / ".fetching/half.parquet").write_bytes(b"x" * 99)

    def download(folder):
        assert not list(folder.iterdir())
        (folder / "a").write_bytes(b"12")
        return folder / "a"

    cache.get("a.parquet", 2, download)
    assert sorted(os.listdir(tmp_path)) == [".lock", "a.parquet"]


def test_a_shaky_network_gets_three_tries(hub, tmp_path, capsys):
    shards = open_set(hub, tmp_path)
    hub.down = 2
    assert shards[0] == {"text": "0.0"}
    assert capsys.readouterr().err.count("next try") == 2
    hub.down = 3
    with pytest.raises(UsageError, match=r"ConnectionError: no route to host\): download"):
        shards[3]


def test_without_a_network(hub, tmp_path):
    hub.down = 1
    address = "https://huggingface.co/datasets/some/set/tree/main/main"
    with pytest.raises(UsageError, match=rf"some/set: the hub did not give it .*{address} .*path=FOLDER"):
        open_set(hub, tmp_path)
    open_set(hub, tmp_path)[0]
    hub.down = 1  # what was there once opens again, and what was fetched can be read
    shards = open_set(hub, tmp_path)
    assert len(shards) == 9 and shards[1] == {"text": "0.1"}


def test_columns_of_a_hub_set_are_checked_before_any_download(hub, tmp_path):
    with pytest.raises(UsageError, match=r"some/set/main/train-00000.* no column 'sound', only text, number"):
        open_set(hub, tmp_path, columns=("text", "sound"))
    assert not hub.downloads()


def test_a_task_of_the_hub_by_its_line(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "HuggingFace", lambda: hub)
    options = f"repo={REPO}&cache={tmp_path}/cache&max_gb=0.001&shards=2&start=1"
    task = make_task(f"plain_text:main?{options}")
    assert len(task) == 5 and not hub.downloads() and task[4].answer == "1.2"
    assert task[4].id == "main/train-00001-of-00003.parquet: row 2" and len(hub.downloads()) == 1
    with pytest.raises(UsageError, match="no subset 'maim'; did you mean main"):
        make_task(f"plain_text:maim?{options}")
    with pytest.raises(UsageError, match="no column 'images', only text, number"):
        make_task(f"finevision:main?{options}")


def test_the_real_client_says_in_one_sentence_that_there_is_no_network(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=r"some/set: the hub did not give it \(\w+: "):
        hub_shards(HubSet(REPO), tmp_path, 10**9)


def test_the_extra_is_named_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"nano-deepseek-ocr\[hub\]"):
        HuggingFace()
