"""Jobs, for people and for services: what one is to do, and the folder that a person writes it in.

Imports no service and no library of one, so that a command line starts fast.
"""
