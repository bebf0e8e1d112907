"""The least that deletes a task in the same stages: WSGI, the plain driver, `http.client`.

The same statements, the same call to Trigger.dev, the same pool size and gunicorn settings;
no framework, no retries, no deadline, no log, no error answered.
"""

import hashlib
import hmac
import http.client
import json
import queue
import sqlite3
import threading
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg

from recoup.config import Config
from recoup.database import mark_queries, queries
from recoup.database.connection import connect as choose_database

config = Config.load()
trigger = urlsplit(config.trigger_api_url)
secret = config.privy_project_secret.encode()
lease_seconds = config.trigger_deadline_seconds + 15
postgres = not config.database_url.startswith("sqlite")
local = threading.local()
connections = queue.LifoQueue()
for _ in range(config.database_pool_size):
    connections.put(None)

choose_database(config)  # it says which one the statements are built for


def connect():
    if postgres:
        return psycopg.connect(config.database_url, autocommit=True)
    path = config.database_url.removeprefix("sqlite:///")
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in ("foreign_keys=1", "journal_mode=wal", "synchronous=full", "busy_timeout=3000"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def cancel(schedule_id):
    """Send the DELETE on the thread's own kept connection."""
    if not hasattr(local, "trigger"):
        local.trigger = http.client.HTTPConnection(trigger.hostname, trigger.port, timeout=8)
    headers = {"Authorization": f"Bearer {config.trigger_secret_key}"}
    local.trigger.request("DELETE", f"/api/v1/schedules/{schedule_id}", headers=headers)
    response = local.trigger.getresponse()
    response.read()
    return response.status


def app(environ, start_response):
    task_id = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))["id"]
    key_hash = hmac.new(secret, environ["HTTP_X_API_KEY"].encode(), hashlib.sha256).hexdigest()
    token = str(uuid4())

    connection = connections.get() or connect()
    caller = str(connection.execute(*queries.find_key.bind(key_hash)).fetchone()[1])
    find_task = queries.find_task.bind(task_id, caller, None)
    schedule_id, allowed, *_ = connection.execute(*find_task).fetchone()
    assert allowed
    connection.execute(*mark_queries.place_mark.bind(task_id, token, caller, lease_seconds))
    connections.put(connection)

    assert cancel(schedule_id) == 200

    connection = connections.get() or connect()
    connection.execute(*queries.remove_task.bind(task_id, schedule_id, token))
    connections.put(connection)

    body = b'{"status":"success"}'
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]
