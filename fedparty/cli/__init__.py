"""The command line: arguments, printing, exit codes.

Owns what a person types and reads. Imports nothing here: each command loads what it needs when it is called.
"""
