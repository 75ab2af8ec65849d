"""A server of the interface that clients of OpenAI speak: one engine reads for many requests at once.

In the process that answers: request -> app.py (limits, key) -> process.py, a pipe
In the process that reads: jobs.py (what is asked) -> service.py (a thread for each request) -> decoder.py
(one batch for all) -> answer.py or events.py -> the pipe -> the client
"""
