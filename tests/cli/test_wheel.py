"""What pip installs works outside the repository: the wheel, in an environment without the repository."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "assets" / "pages" / "receipt.jpg"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with `bin/nanoocr` from the wheel; libraries come from the environment that runs the tests.

    A line in a .pth file adds their folder, and Python reads no .pth files in a folder that is added so:
    the editable install of this repository stays out of sight.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "-q", "-w", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True, text=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    target = folder / "env"
    venv.create(target, with_pip=False, symlinks=True)
    scheme = {"base": str(target), "platbase": str(target)}
    packages = Path(sysconfig.get_path("purelib", "posix_prefix", scheme))
    install = [sys.executable, "-m", "pip", "--python", str(target / "bin" / "python"), "install", "-q"]
    subprocess.run([*install, "--no-deps", str(wheel)], check=True, capture_output=True, timeout=300)
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return target


def call(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(installed / "bin" / "nanoocr"), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.slow
def test_the_package_is_the_one_of_the_wheel(installed, tmp_path):
    code = "import nanoocr; print(nanoocr.__file__)"
    python = str(installed / "bin" / "python")
    where = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert str(installed) in where.stdout


@pytest.mark.slow
def test_it_reads_a_page(installed, tmp_path):
    done = call(installed, tmp_path, "read", "--json", str(PAGE))
    assert done.returncode == 0, done.stderr
    page = json.loads(done.stdout.splitlines()[0])
    assert page["status"] == "ok"
    assert len(page["lines"]) > 5


@pytest.mark.slow
def test_every_subcommand_has_help(installed, tmp_path):
    listed = re.findall(r"^    (\w+)  ", call(installed, tmp_path, "--help").stdout, re.MULTILINE)
    assert set(listed) == {
        "read", "batch", "serve", "info", "convert", "finetune", "evaluate", "push", "export",
    }  # fmt: skip
    for name in listed:
        done = call(installed, tmp_path, name, "--help")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"usage: nanoocr {name}")
