"""The mailbox: named objects sent and received between the members of one task attempt.

Owns objects from a member's `send` to another's `receive`. Does not own who runs, when, or what the objects mean.
"""
