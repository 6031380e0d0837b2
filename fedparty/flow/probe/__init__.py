"""``fedparty probe``: what a party sees of itself and of the others, from within.

Owns the questions and the form of the answers; runs beside the services, in the party's home, with flow's settings.
Does not own what follows from the answers of several parties: that is the deployer's doctor.
"""
