"""The script that trains the tokenizer."""

import json

import pytest

from nanoocr.bpe import Tokenizer
from nanoocr.commandline import run
from scripts.tok_train import main
from tests.tokenizers import corpus


def test_tok_train_writes_the_file_and_reports(tmp_path, capsys):
    pytest.importorskip("rustbpe")
    (tmp_path / "a.txt").write_text("".join(corpus()[:250]))
    (tmp_path / "b.txt").write_text("".join(corpus()[250:]))
    out = tmp_path / "tokenizer.json"
    flags = ["--vocab_size=500", f"--out={out}", "--synth_count=0", "--held_out=10"]
    assert run(main, [*flags, f"--texts={tmp_path / 'a.txt'}", f"--texts={tmp_path / 'b.txt'}"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert Tokenizer.from_file(out).fingerprint() == report["fingerprint"]
    assert (report["vocab_size"], report["texts"]) == (500, 450)
    assert report["characters_per_token"] > 1.4
    assert report["characters_per_byte_token"] == 1.0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--synth_count=0"], "no text to train on"),
        (["--texts=nowhere.txt", "--synth_count=0"], "nowhere.txt does not exist"),
        (["--synth_count=-1"], "synth_count is -1"),
        (["--held_out=1"], "held_out is 1"),
        (["--vocab=3"], "--vocab=3"),
        (["--vocab_size=265"], "vocab_size is 265"),
    ],
)
def test_tok_train_mistakes_end_in_one_line_and_code_2(flags, words, capsys):
    assert run(main, flags) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
