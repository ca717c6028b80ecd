"""Reading other people's networks: their layers, their calls, and the data they are tried on."""
