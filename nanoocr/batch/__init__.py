"""Reading a great many pages: a ledger of what is done, workers with one model each, Parquet out.

ledger.py -> sources.py (one document's bytes) -> worker.py -> pool.py -> shards.py; drive.py joins them.
"""
