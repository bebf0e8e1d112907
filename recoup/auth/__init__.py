"""Who is calling: an API key or a Privy access token, turned into an account.

It asks the database and, for a token, Privy. Begin with `authenticator.py`.
"""
