"""Several gloo processes against one, as a user starts them: torchrun and the stage script."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nanoocr.model.folder import load_model
from nanoocr.train.checkpoint import load_state
from nanoocr.train.distributed import World
from nanoocr.train.step import Totals

ROOT = Path(__file__).parents[2]
RUN = [
    *("scripts.vis_tok_train", "--preset=nano", "--run_name=tok", "--batch_size=4", "--micro_batch=1"),
    *("--workers=0", "--threads=1", "--dtype=float32", "--eval_samples=2", "--log_every=1", "--pack=True"),
    "--eval_tokens=8",
    *("--max_length=256", "--text_ratio=0.4", "--average=0.5", "--timeout_s=120", "--save_every=1"),
    "--keep_last=0",
]


def train(out: Path, processes: int, *flags: str) -> subprocess.CompletedProcess[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", *RUN, f"--out={out}", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """Four steps of one process, with a checkpoint at each."""
    out = tmp_path_factory.mktemp("alone")
    done = train(out, 1, "--steps=4")
    assert done.returncode == 0, done.stderr[-2000:]
    return out / "tok"


def same_gradients(ours: Path, theirs: Path) -> None:
    """After one step the moments of both optimisers are the gradients, times a number: equal to rounding.

    (The weights themselves would be no test: Muon and AdamW turn the rounding of a vanishing gradient into an
    update of full length.)
    """
    found, expected = (load_state(run / "step_000001") for run in (ours, theirs))
    assert found["readers"] == expected["readers"]
    pairs = [
        (mine[name], their[name])
        for one, other in zip(found["optimizers"], expected["optimizers"], strict=True)
        for mine, their in zip(one["state"].values(), other["state"].values(), strict=True)
        for name in ("momentum", "exp_avg")
        if name in their
    ]
    assert len(pairs) > 50 and any(their.abs().max() > 0 for _, their in pairs)
    for mine, their in pairs:
        torch.testing.assert_close(mine, their, atol=1e-6 + 1e-4 * float(their.abs().max()), rtol=0.0)


def same_losses(ours: Path, theirs: Path) -> None:
    """Every step's losses agree."""
    found, expected = losses(ours), losses(theirs)
    assert found.keys() == expected.keys() == {1, 2, 3, 4}
    for step, line in expected.items():
        for name in ("loss", "glyph_patch", "glyph_token", "loss_ema", "padding"):
            assert found[step][name] == pytest.approx(line[name], rel=5e-3), (step, name)


def losses(run: Path) -> dict[int, dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in lines if line["event"] == "train"}


@pytest.mark.parametrize("processes", [2, 4])
def test_many_processes_equal_one(alone, tmp_path, processes):
    """Same global batch, packed lines, some of them text alone, losses over the global count."""
    done = train(tmp_path, processes, "--steps=4")
    assert done.returncode == 0, done.stderr[-2000:]
    same_gradients(tmp_path / "tok", alone)
    same_losses(tmp_path / "tok", alone)
    assert done.stderr.count("validation at 4") == 1  # one rank speaks


def test_a_run_goes_on_with_another_number_of_processes(alone, tmp_path):
    shutil.copytree(alone, tmp_path / "tok")
    for step in (3, 4):
        shutil.rmtree(tmp_path / "tok" / f"step_{step:06d}")
    done = train(tmp_path, 2, "--steps=4", "--resume=True")
    assert done.returncode == 0, done.stderr[-2000:]
    same_losses(tmp_path / "tok", alone)
    readers = [load_state(run / "step_000004")["readers"] for run in (tmp_path / "tok", alone)]
    assert readers[0] == readers[1] and len(readers[0]) == 4


def test_a_split_run_goes_on_with_any_number_of_processes(alone, tmp_path):
    """From a checkpoint of a whole model to four ranks with a part each, to two, to one without parts."""
    run = tmp_path / "tok"
    shutil.copytree(alone, run)
    shutil.rmtree(run / "step_000003")
    (run / ".shards.writing").mkdir()  # as a kill leaves it
    (run / ".shards.writing" / "shard-00009").write_bytes(b"half")
    for processes, flags in ((4, ["--shard=True"]), (2, ["--shard=True"]), (1, [])):
        shutil.rmtree(run / "step_000004")
        done = train(tmp_path, processes, "--steps=4", "--resume=True", *flags)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stderr.count("step 4/4") == done.stderr.count("validation at 4") == 1
        same_losses(run, alone)
        step = run / "step_000004"
        assert len(list(step.glob("shard-*"))) == (processes if flags else 0)
        assert load_state(step)["readers"] == load_state(alone / "step_000004")["readers"]
        assert load_model(step)[0].config == load_model(alone / "step_000004")[0].config
        assert validation_loss(run) == pytest.approx(validation_loss(alone), rel=0.02)


def validation_loss(run: Path) -> float:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["event"] == "validation"][-1]


def test_processes_that_cannot_share_a_step_are_told(tmp_path):
    done = train(tmp_path, 3, "--steps=4")
    assert done.returncode != 0 and "3 ranks cannot share 4 micro-batches" in done.stderr


HEAD = """
import datetime, os, signal, sys, time
import torch.distributed as dist
from nanoocr.commandline import run
from nanoocr.train.distributed import member
def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
"""
TAIL = """
def main(argv):
    with member("cpu", 120) as world:
        meet(world)
sys.exit(run(main))
"""
# The second meeting is one that a step would hang in: rank 0 comes to it when rank 1 has given up.
LATE = f"""{HEAD}
def meet(world):
    pids = world.gather(os.getpid())
    dist.distributed_c10d._set_pg_timeout(datetime.timedelta(seconds=1), dist.group.WORLD)
    if world.is_main:
        time.sleep(3)
    world.wait()
    print(f"rank {{world.rank}} went on", file=sys.stderr)
    while world.is_main and is_there(pids[1]):
        time.sleep(0.1)
    world.sum([1.0])
    print("the sum was made", file=sys.stderr)
{TAIL}"""
DEAD = f"""{HEAD}
def meet(world):
    if world.rank:
        os.kill(os.getpid(), signal.SIGKILL)
    world.sum([1.0])
{TAIL}"""


def two_ranks(folder: Path, script: str) -> list[tuple[int, str]]:
    """The exit code of each of two ranks and what it wrote to stderr.

    Without torchrun, which ends the one soon after the other: how soon is a matter of the machine's load.
    """
    (folder / "script.py").write_text(script)
    with socket.socket() as meeting:
        meeting.bind(("localhost", 0))
        port = meeting.getsockname()[1]
    meet = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(folder / "script.py")],
            env={**os.environ, **meet, "PYTHONPATH": str(ROOT), "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        # rank 1 first: rank 0 may wait until it is gone
        said = {rank: ranks[rank].communicate(timeout=300)[1] for rank in (1, 0)}
    finally:
        for process in ranks:
            process.kill()
    return [(process.returncode, said[rank]) for rank, process in enumerate(ranks)]


def test_ranks_wait_for_a_long_validation_but_not_for_a_step_that_hangs(tmp_path):
    """Rank 0 comes three seconds late where steps allow one: `wait` goes on, a sum ends with a sentence."""
    (late_code, late), (waiting_code, waiting) = two_ranks(tmp_path, LATE)
    assert (late_code, waiting_code) == (7, 7), late
    assert late.count("rank 0 went on") == waiting.count("rank 1 went on") == 1
    assert "error: another process of this run did not answer within --timeout_s" in waiting
    assert "--resume=True" in late and "the sum was made" not in late + waiting
    assert "Traceback" not in late + waiting


def test_a_rank_that_is_killed_ends_the_others_with_a_sentence(tmp_path):
    (code, left), (killed, _) = two_ranks(tmp_path, DEAD)
    assert (code, killed) == (7, -9)
    assert "error: another process of this run has ended" in left and "--resume=True" in left
    assert "Traceback" not in left


def test_totals_of_one_process_are_its_own(byte_tokenizer, make_row):
    from nanoocr.data.batch import collate
    from nanoocr.data.example import prepare

    examples = [prepare(make_row(i, chars="ab"), byte_tokenizer, ((64, 128),), 100) for i in range(3)]
    batches = [collate(examples[:1], 0), collate(examples[1:], 0)]
    totals = Totals.of(batches, World(), stop=True)
    assert totals.supervised == sum(len(f"answer {i}") + 1 for i in range(3))
    assert (totals.documents, totals.pictures, totals.stops) == (3, 3, 1)
    assert totals.glyph_weight == pytest.approx(3 * (2 + 0.2 * (4 * 16 - 2)))
