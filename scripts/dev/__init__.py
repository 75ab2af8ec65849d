"""What the maintainers run: sample pictures, the shipped model, tables for the docs."""
