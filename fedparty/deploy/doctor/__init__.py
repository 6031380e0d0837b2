"""The doctor: what is broken in a running federation, at which hop, and the remedy.

Owns the examination of machines and parties through transport and engine, and what follows from it. The questions that
are asked within a party are `fedparty.flow.probe`'s. Changes nothing.
"""
