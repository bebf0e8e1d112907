"""The WSGI object: `gunicorn` finds it through `gunicorn.conf.py`, `flask run` by its name."""

from recoup.app import create_app
from recoup.web import serving

app = create_app(serving.config)
