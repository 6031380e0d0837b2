"""The REST interface of a party, for its own people.

Owns HTTP: paths, status codes, the token, JSON. Does not own what a job is or does.
"""
