"""Whether a cron expression is valid for Trigger.dev, and the error if it isn't.

Mirrors CronPattern, apps/webapp/app/v3/schedules.ts, and version 4 of cron-parser, which that uses.
`L` and `#`, which cron-parser also knows, are refused here.
"""

import re

PREDEFINED = {"@yearly", "@monthly", "@weekly", "@daily", "@hourly"}

# The least and greatest value of each field, and the letters and signs that it allows.
FIELDS = [
    (0, 59, r"[,*\d/-]+"),
    (0, 23, r"[,*\d/-]+"),
    (1, 31, r"[?,*\d/-]+"),
    (1, 12, r"[,*\d/-]+"),
    (0, 7, r"[?,*\d/-]+"),
]
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
NAMES = {
    3: {name: str(number) for number, name in enumerate(MONTHS, 1)},
    4: {name: str(number) for number, name in enumerate(WEEKDAYS)},
}


def check_cron(expression: str) -> None:
    """Raise `ValueError` with Trigger.dev's words unless the expression is valid."""
    if len(expression.split(" ")) > len(FIELDS):
        raise ValueError("CRON expressions with seconds are not allowed")
    if not expression:
        raise ValueError("CRON expression is required")
    if expression in PREDEFINED:
        return
    values = expression.split()
    # If fields are missing, it is the first ones.
    for index, value in enumerate(values, len(FIELDS) - len(values)):
        _check_field(index, value)


def _check_field(index: int, value: str) -> None:
    least, greatest, allowed = FIELDS[index]
    if index in NAMES:
        value = re.sub("[a-zA-Z]{3}", lambda match: _number(NAMES[index], match[0]), value)
    if not re.fullmatch(allowed, value, re.ASCII):
        raise ValueError(f"Invalid characters, got value: {value}")
    for item in value.split(","):
        if not item:
            raise ValueError("Invalid list value format")
        _check_item(re.sub(r"[*?]", f"{least}-{greatest}", item), least, greatest)


def _number(names: dict[str, str], name: str) -> str:
    if name.lower() not in names:
        raise ValueError(f'Validation error, cannot resolve alias "{name.lower()}"')
    return names[name.lower()]


def _check_item(item: str, least: int, greatest: int) -> None:
    """Check a number or a range, with or without a step."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?(?:/(\d+))?", item)
    if not match:
        raise ValueError(f"Invalid range: {item}")
    first, last = int(match[1]), int(match[2] or match[1])
    if first < least or last > greatest:
        got = f"range {first}-{last}" if match[2] else f"value {first}"
        raise ValueError(f"Constraint error, got {got} expected range {least}-{greatest}")
    if first > last:
        raise ValueError(f"Invalid range: {item}")
    if match[3] and not int(match[3]):
        raise ValueError("Constraint error, cannot repeat at every 0 time.")
