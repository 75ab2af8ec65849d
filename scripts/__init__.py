"""Entry points, run as `python -m scripts.NAME --key=value`. The library never imports from here."""
