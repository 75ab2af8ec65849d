"""A server of the interface that clients of OpenAI speak: one engine reads for many requests at once.

request -> app.py (limits, key) -> service.py (a thread for each request) -> decoder.py (one batch for all)
"""
