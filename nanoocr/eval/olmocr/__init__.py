"""olmOCR-bench's unit tests: sentences that must be there, in order, in the right cells."""
