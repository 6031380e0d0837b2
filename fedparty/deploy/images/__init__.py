"""Container images: made, kept in one file, brought to a registry.

Owns how each image of a release is built and how this machine's Docker is asked for it. Owns neither their names
(`fedparty.config.images`) nor their way to the parties' machines (`fedparty.deploy.containers.supply`).
"""

from fedparty.deploy.images.local import LocalImages

__all__ = ["LocalImages"]
