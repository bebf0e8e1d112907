"""`/docs`: the OpenAPI document as a page, where people can paste a key and try a delete.

Swagger UI comes with the wheel of flask-swagger-ui, whose own blueprint is not used: its page
has a box to load a document from anywhere, and no policy that keeps the browser to this host.
"""

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from flask import Blueprint, Response, redirect
from werkzeug.wrappers import Response as Redirect

# Swagger UI has dark colours and, without its top bar, nobody who puts them on.
START = """
const dark = matchMedia("(prefers-color-scheme: dark)");
dark.onchange = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.onchange();
SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui"});
"""
# What Swagger UI leaves dark on dark; the column of links, which no answer has; and on a telephone
# each answer below its status, or it would be wider than the screen.
STYLE = """
.dark-mode .swagger-ui :is(.header-col, .examples-select__section-label) { color: #e4e6e6; }
.swagger-ui .response-col_links { display: none !important; }
@media (max-width: 600px) {
  .swagger-ui .responses-table,
  .swagger-ui .responses-table > tbody,
  .swagger-ui .responses-table > tbody > tr,
  .swagger-ui table.responses-table > tbody > tr > td { display: block; max-width: none; }
  .swagger-ui .responses-table > thead { display: none; }
  .swagger-ui .response > .response-col_status { font-weight: bold; padding: 20px 0 0; }
  .swagger-ui .response-controls { flex-wrap: wrap; row-gap: 10px; }
  .swagger-ui .json-schema-2020-12__title { overflow-wrap: anywhere; text-align: left; }
}
"""
PAGE = f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Recoup task deletion</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<style>{STYLE}</style>
<link rel="icon" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script>{START}</script>
</body>
</html>
"""


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


# The page holds a key while it is open: nothing may be sent elsewhere, nor the page be framed.
POLICY = (
    "default-src 'self'; "
    f"script-src 'self' {_hash(START)}; style-src 'self' {_hash(STYLE)}; "
    "img-src 'self' data:; frame-ancestors 'none'"
)

blueprint = Blueprint(
    "docs",
    __name__,
    static_folder=str(files("flask_swagger_ui") / "dist"),
    static_url_path="/docs",
)


@blueprint.get("/")
def root() -> Redirect:
    """Lead who opens the bare address in a browser to the page."""
    return redirect("/docs")


@blueprint.get("/docs")
@blueprint.get("/docs/")
def docs() -> Response:
    """Answer the page."""
    return Response(PAGE, mimetype="text/html", headers={"Content-Security-Policy": POLICY})
