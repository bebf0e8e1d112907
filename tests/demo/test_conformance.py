"""The stand-in answers 220 requests as Trigger.dev's own server answered them.

`recorded.json` holds the requests, in their order, and of each answer what is compared: the
status, the content type (JSON, unless it says otherwise) and what was told: the names in a JSON
document with the types of their values, of a list the first item, and the values themselves
where they are words or numbers that a caller goes by. It was recorded on 2026-11-25 from the
web application of trigger.dev at commit b082e44: its production build with its rate limiter, on
Postgres 15 and Redis, with a prod key of an environment that has a current deployment.

Left out is what the stand-in doesn't have: the issues of a validation, the description of a
cron, `nextRunEffectiveAt`, and the shortcode and slug of an environment.
"""

import json
import re
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from string import Template
from typing import Any
from uuid import uuid4

from recoup.demo.messages import JSON
from recoup.demo.standin import StandIn

KEY = "tr_prod_AAAAAAAAAAAAAAAAAAAA"
LEFT_OUT = {"issues", "description", "nextRunEffectiveAt", "shortcode", "slug"}
WORDS = {
    *("active", "body", "count", "currentPage", "detail", "error", "expression", "message"),
    *("status", "task", "timezone", "title", "totalPages", "type", "window"),
}


def test_every_recorded_request_is_answered_as_by_the_real_server():
    exchanges = json.loads(Path(__file__).with_name("recorded.json").read_text())
    assert len(exchanges) == 220
    with StandIn(KEY) as standin:
        different = list(differences(standin.url.removeprefix("http://"), exchanges))
    assert different == []


def differences(host: str, exchanges: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Send the requests one after another; yield where an answer is another than recorded."""
    names = {name: str(uuid4()) for name in ("t1", "t2", "t3")}
    names |= {f"other{number}": str(uuid4()) for number in range(1, 7)}
    names |= {f"k{length}": "k" * length for length in (2000, 9000, 20000)}
    names |= {"T1": names["t1"].upper(), "key": KEY}
    for exchange in exchanges:
        # Ids are told by the answers, and stand in the requests that follow.
        request = json.loads(Template(json.dumps(exchange)).substitute(names))
        answer, body = send(host, request)
        if name := exchange.get("keep"):
            names[name] = schedule_id(body)
        ours = {"status": answer.status, "type": answer.headers["content-type"], "told": told(body)}
        if ours != {"type": JSON} | {name: exchange[name] for name in ours if name in exchange}:
            yield {"recorded": exchange, "ours": ours}


def send(host: str, request: Mapping[str, Any]) -> tuple[HTTPResponse, bytes]:
    """Send a request on a connection of its own, with the key unless it says otherwise."""
    headers = {"authorization": f"Bearer {KEY}", **request.get("headers", {})}
    body = json.dumps(request["json"]) if "json" in request else request.get("text")
    connection = HTTPConnection(host, timeout=10)
    try:
        given = {name: value for name, value in headers.items() if value is not None}
        connection.request(request["method"], request["path"], body, given)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def schedule_id(body: bytes) -> str:
    """Return the id that an answer tells, or one that there is not."""
    return json.loads(body).get("id", "sched_none")


def told(body: bytes) -> object:
    """Return what is compared of a body."""
    if body.startswith(b"\x1f\x8b"):
        return "gzip"
    text = body.decode()
    if text.lower().startswith("<!doctype"):
        return "a page"
    try:
        return shape(json.loads(text))
    except ValueError:
        return re.sub(r"sched_\w+", "sched_...", text)


def shape(value: object, name: str = "") -> object:
    """Return the types of a JSON document's values; of the telling ones the value itself."""
    if isinstance(value, dict):
        return {key: shape(value[key], key) for key in value.keys() - LEFT_OUT}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return value if name in WORDS else type(value).__name__
