"""Returns on training levels beside returns on levels that were never seen."""
