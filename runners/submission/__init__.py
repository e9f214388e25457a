"""A folder of generations checked against the rules and packed into the zip that is handed in."""
