"""The model, one file for each box of the paper's figure, and the folder that keeps it."""
