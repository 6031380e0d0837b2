"""The federation's certificate authority, its revocation list, and signed manifests.

Owns what only the operator may do: issue, revoke, sign. Does not own what a service does with a certificate
(`fedparty.crypto`), nor where a party's keys are kept (`fedparty.generate`).
"""
