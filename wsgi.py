"""The WSGI object: `gunicorn` finds it through `gunicorn.conf.py`, `flask run` by its name."""

from recoup.app import create_served_app

app = create_served_app()
