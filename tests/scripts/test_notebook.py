"""examples/read_and_train.ipynb runs from top to bottom, and shows what its text says."""

from __future__ import annotations

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.slow
def test_the_notebook_runs():
    notebook = nbformat.read(EXAMPLES / "read_and_train.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # results of another day are not kept
    where = {"metadata": {"path": str(EXAMPLES)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "Freiburg" in text  # of the receipt that is read
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 3  # the overlay, the features, the losses
