"""HTTP: the route, the answers, the documents, the health checks and gunicorn's worker.

Only here is Flask known, and only `errors.py` turns a failure into a status and JSON. Begin with
`tasks.py`.
"""
