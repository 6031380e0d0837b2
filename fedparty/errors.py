"""The exception tree.

    FedpartyError                what is wrong, where, and what to do
    ├── ConfigurationError       parties.conf, a settings file, a job description
    ├── BundleError              a bundle that is damaged, foreign or incomplete
    ├── CertificateError         a key, certificate or revocation list
    ├── TokenError               a token that is missing, forged, expired or for something else
    ├── DeployError              a host, an engine, a service that does not become healthy
    ├── VerificationError        a deployed federation that did not give the right sum
    ├── RpcError                 a call that failed, with its code from the wire catalogue
    ├── DatabaseError            a database that cannot be read or written now
    ├── JobError                 a job that cannot be accepted or did not succeed
    ├── ComponentError           a component that cannot be found or was called wrongly
    └── NotAvailableError        a feature that this release does not have

Owns the exceptions, and nothing about how they are shown: the command line, gRPC and the web page each show them
once, at their own edge.
"""

from __future__ import annotations


class FedpartyError(Exception):
    """Something a person can act on.

    Parameters
    ----------
    message
        What is wrong and where, e.g. ``parties.conf:3: partylist: 12 is given twice``.
    hint
        What to do about it, as one sentence.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class ConfigurationError(FedpartyError):
    """A configuration that cannot be used; nothing was written."""

    exit_code = 2


class BundleError(FedpartyError):
    """A bundle that is damaged, incomplete or of another federation."""


class CertificateError(FedpartyError):
    """A key, certificate, signing request or revocation list that cannot be used."""


class TokenError(FedpartyError):
    """A token that is missing, forged, expired or for something else."""


class DeployError(FedpartyError):
    """A host, an engine or a service that did not do what was asked."""


class VerificationError(FedpartyError):
    """A federation that runs but did not compute the right result."""


class RpcError(FedpartyError):
    """A remote call that failed.

    Parameters
    ----------
    message, hint
        As in `FedpartyError`.
    code
        Name of an entry of the catalogue in `fedparty.rpc.catalogue`, e.g. ``UNKNOWN_PARTY``.
    """

    def __init__(self, message: str, *, hint: str = "", code: str = "INTERNAL") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class DatabaseError(FedpartyError):
    """A database that cannot be read or written now: its disk is full, or somebody locks it."""


class JobError(FedpartyError):
    """A job that cannot be accepted, or that did not end in success."""


class ComponentError(FedpartyError):
    """A component that does not exist, lacks a role, or was called with wrong parameters."""


class NotAvailableError(FedpartyError):
    """A feature this release does not have yet."""
