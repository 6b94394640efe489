"""What only the checks of the fleet need: its API, roles, forged tokens, magic packets."""
