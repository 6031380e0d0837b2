"""The people of a party: users, what each may do, their tokens.

Owns users and tokens. Does not own what a site allows to jobs (`fedparty.flow.policy`).
"""

from fedparty.flow.people.people import People
from fedparty.flow.people.users import ADMIN, Principal, User, UserRole

__all__ = ["ADMIN", "People", "Principal", "User", "UserRole"]
