"""Puts bundles where they run, starts them, and proves that they work.

Owns the deploy story over *transport* (how a machine is reached) × *engine* (what runs a bundle there). Owns neither
the bundles (`fedparty.generate`) nor the services. Imports nothing here, so that a party's own commands start fast.
"""
