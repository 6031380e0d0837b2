"""What a site allows: its ``policy.yaml``, read, followed and applied.

Owns the rules and their decisions. Does not own who a user is (`fedparty.flow.people`), nor acting on a decision
(`fedparty.flow.admission`).
"""

from fedparty.flow.policy.decisions import Decision, Submission, decide
from fedparty.flow.policy.file import PolicyFile
from fedparty.flow.policy.model import DEFAULT, Policy, Rule
from fedparty.flow.policy.reading import read

__all__ = ["DEFAULT", "Decision", "Policy", "PolicyFile", "Rule", "Submission", "decide", "read"]
