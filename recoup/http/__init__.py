"""HTTP calls to other services, each of which ends by its deadline, down to the single byte.

It stands on requests and urllib3 and knows nothing of who is called. Begin with `client.py`.
"""
