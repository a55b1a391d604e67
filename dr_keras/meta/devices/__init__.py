"""Members of a population over devices."""
