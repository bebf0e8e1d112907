"""The staged delete: a task goes together with its schedule, or stays as it was.

It uses the database and Trigger.dev, and knows neither Flask nor JSON, so that the route, the
commands and the sweep share it. Begin with `staged.py`.
"""
