"""Keys, certificates, revocations and tokens: what both halves of fedparty need of cryptography.

Owns reading and checking. Does not own the certificate authority or manifests; those are `fedparty.pki`.
"""
