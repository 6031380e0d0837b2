"""Which of a flow's replicas leads: a lease in the database, and an epoch that outlives it."""

from fedparty.flow.leadership.leadership import Leadership
from fedparty.flow.leadership.term import ALONE, Term

__all__ = ["ALONE", "Leadership", "Term"]
