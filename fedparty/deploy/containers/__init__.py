"""What the docker engine is made of: Docker's command lines, what a machine must have, images, releases, backups.

Each module owns one step of a party's life in containers; `fedparty.deploy.engine.docker` puts them in order.
"""
