"""HTTP calls to other services. Each ends by its deadline, down to the single byte.

It is built on requests and urllib3, and doesn't know the services. Begin with `client.py`.
"""
