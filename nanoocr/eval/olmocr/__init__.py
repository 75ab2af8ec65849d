"""olmOCR-bench's unit tests: which sentences must be present, in order, and in the right cells."""
