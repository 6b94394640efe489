"""What the commands share. Nothing in here is run by hand.

Arrows run one way: commands -> load, gateway, fleet, report -> wire -> core.
"""
