"""The headers of each answer and preflight: a page of any origin may ask, with its own key."""

CORS_HEADERS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "GET, DELETE"),
    ("Access-Control-Allow-Headers", "x-api-key, Authorization, Content-Type"),
    ("Access-Control-Expose-Headers", "X-Request-ID"),
)
