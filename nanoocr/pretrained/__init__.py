"""Others' weights in and ours out: how files are found, what their keys are, and whether a model works."""
