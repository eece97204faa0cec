"""The server: guarded pictures over HTTP, as clients of the OpenAI images API ask for them.

The way of a request: `gate` lets it in, `access` asks who it is, `images` reads what is wanted, `dispatch`
lets it wait for a worker, `worker` makes the pictures in a process of its own, `answers` says what became of
them. `app` puts it all together, and `run` serves it.
"""
