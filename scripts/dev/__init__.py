"""Tools of the maintainers: sample pictures, the shipped model, tables for the docs, the fuzzer."""
