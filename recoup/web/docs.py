"""`/docs`: the OpenAPI document as a page, where people can paste a key and try a delete.

Swagger UI comes with the wheel of flask-swagger-ui, whose own blueprint is not used: its page
has a box to load a document from anywhere, and no policy that keeps the browser to this host.
"""

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from flask import Blueprint, Response

START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui"})'
PAGE = f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Recoup task deletion</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script>{START}</script>
</body>
</html>
"""
# The page holds a key while it is open: nothing may be sent elsewhere, nor the page be framed.
POLICY = (
    "default-src 'self'; "
    f"script-src 'self' 'sha256-{b64encode(sha256(START.encode()).digest()).decode()}'; "
    "img-src 'self' data:; frame-ancestors 'none'"
)

blueprint = Blueprint(
    "docs",
    __name__,
    static_folder=str(files("flask_swagger_ui") / "dist"),
    static_url_path="/docs",
)


@blueprint.get("/docs")
@blueprint.get("/docs/")
def docs() -> Response:
    """Answer the page."""
    return Response(PAGE, mimetype="text/html", headers={"Content-Security-Policy": POLICY})
