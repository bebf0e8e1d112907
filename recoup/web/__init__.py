"""HTTP: the route, the answers, the documents, the health checks and gunicorn's worker.

Nothing below this folder knows Flask. Only `errors.py` turns a failure into a status and JSON.
Begin with `tasks.py`.
"""
